//! Every authentication method between our ends and those of a real HTCondor, in both directions.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cedar::net::{
    Client, ClientConfig, FsAuthentication, Policies, Server, ServerConfig, SessionCache,
};
use cedar::security::server::{Authenticators, CommandTable};
use cedar::security::token::SigningKeys;
use cedar::security::{
    AuthMethod, Authorities, IdentityMap, Level, PoolPassword, SecurityPolicy, SslClientFiles,
    SslServer, SslServerFiles,
};
use cedar::{Sinful, command};
use sailplane_site_tests::{Pool, PoolOptions, process, say};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// What the pool and our server write in place of a certificate's subject.
const MAP: &str = "SSL ^/O=Sailplane/CN=(.*)$ \\1@certificates\n\
                   CLAIMTOBE ^(.*)$ \\1@claimed\n\
                   ANONYMOUS .* nobody@nowhere\n";

/// A configuration of OpenSSL for a client of the older version.
const OLD_TLS: &str = "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = old\n\
                       [old]\nMaxProtocol = TLSv1.2\n";

/// What a client needs for one method.
type Change<'a> = &'a dyn Fn(&mut ClientConfig);

/// Files that prove something.
pub(crate) struct Proofs {
    folder: TempDir,
}

impl Proofs {
    pub(crate) fn make() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("methods-")
            .tempdir_in("/tmp")?;
        let proofs = Self { folder };
        process::output(Command::new("chmod").arg("755").arg(proofs.folder.path()))?;
        let ca = [
            "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "9",
        ];
        let subject = [
            "-subj",
            "/O=Sailplane/CN=Authority",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ];
        proofs.openssl(ca.iter().chain(&subject))?;
        proofs.certify(
            "host",
            "ca",
            "/O=Sailplane/CN=pool",
            "subjectAltName = DNS:localhost",
        )?;
        proofs.certify("alice", "ca", "/O=Sailplane/CN=alice", "")?;
        proofs.certify("stranger", "stranger", "/O=Sailplane/CN=alice", "")?;
        let proxy = "proxyCertInfo = critical, language:id-ppl-inheritAll";
        proofs.certify("proxy", "alice", "/O=Sailplane/CN=alice/CN=77", proxy)?;
        proofs.bundle("bundle.pem", "proxy")?;
        // Scrambled as `condor_store_cred` leaves it.
        let scrambled = |text: &str| -> Vec<u8> {
            let masks = [0xDE, 0xAD, 0xBE, 0xEF].into_iter().cycle();
            text.bytes()
                .zip(masks)
                .map(|(byte, mask)| byte ^ mask)
                .collect()
        };
        fs::write(proofs.path("password"), scrambled("open sesame"))?;
        fs::write(proofs.path("wrong"), scrambled("open barley"))?;
        fs::write(proofs.path("map"), MAP)?;
        fs::write(proofs.path("tls12.cnf"), OLD_TLS)?;
        // A collector looks when it starts whether it can read its certificate and key, and the pool
        // has no account before that.
        for entry in fs::read_dir(proofs.folder.path())? {
            fs::set_permissions(entry?.path(), Permissions::from_mode(0o644))?;
        }
        Ok(proofs)
    }

    /// A new proxy of alice's, complete with its key and her certificate.
    pub(crate) fn renew(&self, bundle: &str) -> Result<()> {
        let proxy = "proxyCertInfo = critical, language:id-ppl-inheritAll";
        self.certify("renewed", "alice", "/O=Sailplane/CN=alice/CN=78", proxy)?;
        self.bundle(bundle, "renewed")
    }

    fn bundle(&self, bundle: &str, proxy: &str) -> Result<()> {
        let parts = [
            format!("{proxy}.pem"),
            format!("{proxy}.key"),
            "alice.pem".to_owned(),
        ];
        let bytes = parts
            .iter()
            .map(|name| fs::read(self.path(name)))
            .collect::<std::io::Result<Vec<_>>>()?
            .concat();
        Ok(fs::write(self.path(bundle), bytes)?)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn openssl<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a &'a str>,
    ) -> Result<()> {
        let mut command = Command::new("openssl");
        command.current_dir(self.folder.path()).args(arguments);
        process::output(&mut command).map(drop)
    }

    /// A certificate `name` signed by `issuer`, or by itself.
    pub(crate) fn certify(
        &self,
        name: &str,
        issuer: &str,
        subject: &str,
        extension: &str,
    ) -> Result<()> {
        let [key, pem, request] = ["key", "pem", "csr"].map(|kind| format!("{name}.{kind}"));
        let usage = "keyUsage = critical, digitalSignature";
        fs::write(self.path("extensions"), format!("{usage}\n{extension}\n"))?;
        let fresh = ["req", "-newkey", "rsa:2048", "-noenc", "-subj", subject];
        if name == issuer {
            return self.openssl(
                fresh
                    .iter()
                    .chain(&["-x509", "-keyout", &key, "-out", &pem]),
            );
        }
        self.openssl(fresh.iter().chain(&["-keyout", &key, "-out", &request]))?;
        let (ca, ca_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let signing = ["x509", "-req", "-days", "9", "-in", &request, "-out", &pem];
        let signer = [
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            "extensions",
        ];
        self.openssl(signing.iter().chain(&signer))
    }

    fn authorities(&self) -> Authorities {
        Authorities {
            file: Some(self.path("ca.pem")),
            ..Authorities::default()
        }
    }

    /// A pool that takes every method.
    fn pool(&self) -> Result<Pool> {
        let methods = "IDTOKENS,PASSWORD,SSL,CLAIMTOBE,ANONYMOUS,FS";
        let password = format!("SEC_PASSWORD_FILE={}", self.path("password").display());
        self.pool_with("methods", methods, [password])
    }

    /// A pool that takes these methods and knows its users by the map.
    pub(crate) fn pool_with(
        &self,
        name: &str,
        methods: &str,
        more: impl IntoIterator<Item = String>,
    ) -> Result<Pool> {
        let path = |name| self.path(name).display().to_string();
        let mut knobs = vec![
            format!("SEC_DEFAULT_AUTHENTICATION_METHODS={methods}"),
            format!("SEC_READ_AUTHENTICATION_METHODS={methods}"),
            format!("AUTH_SSL_SERVER_CAFILE={}", path("ca.pem")),
            format!("AUTH_SSL_SERVER_CERTFILE={}", path("host.pem")),
            format!("AUTH_SSL_SERVER_KEYFILE={}", path("host.key")),
            format!("AUTH_SSL_CLIENT_CAFILE={}", path("ca.pem")),
            "AUTH_SSL_ALLOW_CLIENT_PROXY=true".to_owned(),
            format!("CERTIFICATE_MAPFILE={}", path("map")),
        ];
        knobs.extend(more);
        Pool::raise(&PoolOptions {
            name: name.to_owned(),
            knobs,
            ..PoolOptions::default()
        })
    }

    /// Gives the files to the account of the pool, which runs the tools too, and to it alone.
    pub(crate) fn give_to(&self, pool: &Pool) -> Result<()> {
        self.give_to_but(pool, &[])
    }

    /// As [`Self::give_to`], but for some.
    pub(crate) fn give_to_but(&self, pool: &Pool, but: &[&str]) -> Result<()> {
        let (uid, gid) = pool.owner();
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            let path = entry.path();
            if but.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            chown(&path, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        Ok(())
    }
}

pub(crate) fn run(name: &str, play: impl FnOnce(&Proofs) -> Result<()>) {
    if let Some(reason) = process::obstacle() {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    crate::judge(name, Proofs::make().and_then(|proofs| play(&proofs)));
}

#[test]
fn a_real_collector_knows_our_client_by_each_method() {
    run("methods of our client", |proofs| {
        let pool = proofs.pool()?;
        proofs.give_to(&pool)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let ask = |method, change: &dyn Fn(&mut ClientConfig)| {
            runtime.block_on(who_am_i(pool.collector_host(), method, change))
        };
        let password = |name: &'static str| {
            move |config: &mut ClientConfig| {
                let content = fs::read(proofs.path(name)).unwrap_or_default();
                config.credentials.password = PoolPassword::from_file_content(&content).ok();
            }
        };
        let ssl = |certificate: Option<&'static str>, key: Option<&'static str>| {
            move |config: &mut ClientConfig| {
                config.credentials.ssl = Some(SslClientFiles {
                    authorities: proofs.authorities(),
                    certificate: certificate.map(|name| proofs.path(name)),
                    key: key.map(|name| proofs.path(name)),
                    ..SslClientFiles::default()
                });
            }
        };
        let domain = pool.trust_domain();
        let pilot = format!("pilot@{domain}");
        let root = format!("root@{domain}");
        let token = pool
            .pilot_token()
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default();
        let cases: [(AuthMethod, Change<'_>, &str); 8] = [
            (
                AuthMethod::Password,
                &password("password"),
                "condor@password",
            ),
            (
                AuthMethod::Ssl,
                &ssl(None, None),
                "unauthenticated@unmapped",
            ),
            (
                AuthMethod::Ssl,
                &ssl(Some("alice.pem"), Some("alice.key")),
                "alice@certificates",
            ),
            (
                AuthMethod::Ssl,
                &ssl(Some("bundle.pem"), None),
                "alice@certificates",
            ),
            (
                AuthMethod::ClaimToBe,
                &|config| config.credentials.claim_to_be = Some("dave".into()),
                "dave@claimed",
            ),
            (AuthMethod::Anonymous, &|_| {}, "nobody@nowhere"),
            (
                AuthMethod::Fs,
                &|config| config.credentials.fs = FsAuthentication::On,
                &root,
            ),
            (
                AuthMethod::Token,
                &|config| config.credentials.token_directories = vec![token.clone()],
                &pilot,
            ),
        ];
        for (method, change, wanted) in cases {
            let user = ask(method, change).with_context(|| method.to_string())?;
            ensure!(
                user.as_deref() == Some(wanted),
                "{method}: {user:?} instead of {wanted}"
            );
        }
        let refused = ask(AuthMethod::Password, &password("wrong"))
            .err()
            .map(|error| error.to_string());
        ensure!(
            refused
                .as_deref()
                .is_some_and(|text| text.contains("another pool password")),
            "{refused:?}"
        );
        let refused = ask(
            AuthMethod::Ssl,
            &ssl(Some("stranger.pem"), Some("stranger.key")),
        );
        ensure!(
            refused.is_err(),
            "a certificate of nobody's was accepted: {refused:?}"
        );
        Ok(())
    });
}

/// Our identity at a collector, after proving it by one method.
async fn who_am_i(
    collector: &str,
    method: AuthMethod,
    change: Change<'_>,
) -> Result<Option<String>> {
    let mut config = ClientConfig::new("TOOL", "site-tests");
    config.policy.methods = vec![method];
    change(&mut config);
    let address = Sinful::from_contact(collector, 9618)?.alias("localhost");
    let client = Client::new(config, SessionCache::new());
    Ok(client
        .query_authorization(&address, command::DC_NOP_READ)
        .await?)
}

struct Names;

impl IdentityMap for Names {
    fn map(&self, method: AuthMethod, name: &str) -> Option<String> {
        let common = name.strip_prefix("/O=Sailplane/CN=")?;
        (method == AuthMethod::Ssl).then(|| format!("{common}@certificates"))
    }
}

/// Answers questions about access on a port of its own, until the process ends.
fn serve(proofs: &Proofs, pool: &Pool) -> Result<SocketAddr> {
    let mut keys = SigningKeys::new();
    keys.add_file("POOL", &fs::read(pool.dir().join("keys/POOL"))?)?;
    let table = CommandTable::new().permit(Level::Read, "*");
    let mut config = ServerConfig::for_sessions(SessionCache::new(), Arc::new(table), "site-tests");
    config.policies = Policies::All(SecurityPolicy {
        methods: vec![
            AuthMethod::Password,
            AuthMethod::Ssl,
            AuthMethod::Token,
            AuthMethod::Fs,
            AuthMethod::ClaimToBe,
            AuthMethod::Anonymous,
        ],
        ..SecurityPolicy::default()
    });
    config.trust_domain = Some(pool.trust_domain().to_owned());
    config.authenticators = Authenticators {
        signing_keys: keys,
        password: Some(PoolPassword::from_file_content(&fs::read(
            proofs.path("password"),
        )?)?),
        ssl: Some(Arc::new(SslServer::load(SslServerFiles {
            certificate: proofs.path("host.pem"),
            key: proofs.path("host.key"),
            authorities: proofs.authorities(),
            require_client_certificate: false,
            allow_proxy: true,
        })?)),
        identity_map: Some(Arc::new(Names)),
        fs_directory: Some("/tmp".into()),
        user_lookup: Some(Arc::new(|uid| Some(format!("uid{uid}")))),
        uid_domain: "here".to_owned(),
        claim_to_be: true,
        anonymous: true,
        ..Authenticators::default()
    };
    let server = Server::new(config)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((tcp, peer)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Ok(incoming) = server.accept(tcp, peer).await {
                        let _ = incoming.serve_builtin().await;
                    }
                });
            }
        });
    });
    Ok(address)
}

#[test]
fn condor_ping_is_known_to_our_server_by_each_method() {
    run("methods of our server", |proofs| {
        let pool = Pool::raise(&PoolOptions {
            name: "pinging".to_owned(),
            knobs: vec![
                format!("AUTH_SSL_CLIENT_CAFILE={}", proofs.path("ca.pem").display()),
                format!("SEC_PASSWORD_FILE={}", proofs.path("password").display()),
            ],
            ..PoolOptions::default()
        })?;
        proofs.give_to(&pool)?;
        let address = serve(proofs, &pool)?;
        let ssl = |certificate: &str, key: &str| {
            let path = |name| proofs.path(name).display().to_string();
            vec![
                format!("_CONDOR_AUTH_SSL_CLIENT_CERTFILE={}", path(certificate)),
                format!("_CONDOR_AUTH_SSL_CLIENT_KEYFILE={}", path(key)),
            ]
        };
        let tls12 = proofs.path("tls12.cnf");
        let old = |mut variables: Vec<String>| {
            variables.push(format!("OPENSSL_CONF={}", tls12.display()));
            variables
        };
        let wrong = format!(
            "_CONDOR_SEC_PASSWORD_FILE={}",
            proofs.path("wrong").display()
        );
        let uid = pool.owner().0;
        let domain = pool.trust_domain();
        let (fs_user, claimed) = (format!("uid{uid}@here"), "sailplane-pool@claimtobe");
        let token_user = format!("alice@{domain}");
        let cases = [
            ("PASSWORD", "daemons", vec![], "condor@password"),
            ("SSL", "alice", vec![], "unauthenticated@unmapped"),
            (
                "SSL",
                "alice",
                ssl("alice.pem", "alice.key"),
                "alice@certificates",
            ),
            (
                "SSL",
                "alice",
                ssl("bundle.pem", "proxy.key"),
                "alice@certificates",
            ),
            ("SSL", "alice", old(vec![]), "unauthenticated@unmapped"),
            (
                "SSL",
                "alice",
                old(ssl("alice.pem", "alice.key")),
                "alice@certificates",
            ),
            ("IDTOKENS", "alice", vec![], token_user.as_str()),
            ("FS", "alice", vec![], fs_user.as_str()),
            ("CLAIMTOBE", "alice", vec![], claimed),
            ("ANONYMOUS", "alice", vec![], "CONDOR_ANONYMOUS_USER"),
            // A method that fails leaves both ends at the same message.
            (
                "SSL,CLAIMTOBE",
                "alice",
                ssl("stranger.pem", "stranger.key"),
                claimed,
            ),
            (
                "SSL,CLAIMTOBE",
                "alice",
                old(ssl("stranger.pem", "stranger.key")),
                claimed,
            ),
            ("PASSWORD,CLAIMTOBE", "daemons", vec![wrong], claimed),
        ];
        for (methods, user, variables, wanted) in cases {
            let mut arguments: Vec<String> = ["CLIENT", "DEFAULT", "READ"]
                .iter()
                .map(|level| format!("_CONDOR_SEC_{level}_AUTHENTICATION_METHODS={methods}"))
                .collect();
            arguments.extend(variables.iter().cloned());
            let sinful = format!("<{address}?alias=localhost>");
            let tool = ["condor_ping", "-addr", &sinful, "-table", "READ"];
            arguments.extend(tool.iter().map(|word| (*word).to_owned()));
            let said = pool.tool(user, "env", &arguments)?;
            let line = said.lines().last().unwrap_or_default().trim();
            ensure!(
                line.contains("ALLOW") && line.ends_with(wanted),
                "{methods} as {user} with {variables:?}: {said}"
            );
        }
        Ok(())
    });
}
