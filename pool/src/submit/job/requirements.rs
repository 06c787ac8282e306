//! The user's requirements and what every job requires beside.

use std::collections::BTreeSet;

use classad::{Expr, Value};

use super::{Job, ShouldTransfer};
use crate::submit::path::scheme;

/// What a requirement looks at: names in lower case.
struct Mentioned {
    machine: BTreeSet<String>,
    own: BTreeSet<String>,
}

impl Mentioned {
    fn of(expr: Option<&Expr>) -> Self {
        let found = expr.map(Expr::references).unwrap_or_default();
        // A name without scope is the machine's, unless it can only be the job's.
        let is_own = |name: &str| ["requestmemory", "requirements"].contains(&name);
        let mut mentioned = Self {
            machine: BTreeSet::new(),
            own: BTreeSet::new(),
        };
        for name in &found.my {
            mentioned.own.insert(name.as_str().to_ascii_lowercase());
        }
        for name in &found.target {
            mentioned.machine.insert(name.as_str().to_ascii_lowercase());
        }
        for name in &found.unscoped {
            let name = name.as_str().to_ascii_lowercase();
            if is_own(&name) {
                mentioned.own.insert(name);
            } else {
                mentioned.machine.insert(name);
            }
        }
        mentioned
    }

    fn machine(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| self.machine.contains(&name.to_ascii_lowercase()))
    }
}

impl Job<'_, '_> {
    pub(super) fn requirements(&mut self) {
        let own = self.get("requirements");
        if self.get("MY.Requirements").is_some() {
            if own.is_some() {
                self.warn(
                    "requirements",
                    "+Requirements or MY.Requirements wins over requirements; remove one of them",
                );
            }
            return;
        }
        let mut clauses: Vec<String> = own.iter().map(|own| format!("({own})")).collect();
        if let Some(own) = &own
            && let Err(error) = Expr::parse_old(own)
        {
            self.fail(
                "requirements",
                format!("requirements = {own}: expected a ClassAd expression ({error})"),
            );
            return;
        }
        let context = self.context();
        if let Some(more) = context
            .knob("APPEND_REQ_VANILLA")
            .or_else(|| context.knob("APPEND_REQUIREMENTS"))
        {
            clauses.push(format!("({more})"));
        }
        let expr = Expr::parse_old(&clauses.join(" && ")).ok();
        let mentioned = Mentioned::of(expr.as_ref());
        if mentioned.own.contains("requirements") || mentioned.machine.contains("requirements") {
            self.fail(
                "requirements",
                "requirements refer to Requirements, that is to themselves; did you mean $(requirements)?",
            );
            return;
        }
        self.platform_clauses(&mentioned, &mut clauses);
        self.resource_clauses(&mentioned, &mut clauses);
        if !mentioned.machine(&["EncryptExecuteDirectory"])
            && self.ad.bool("EncryptExecuteDirectory") == Some(true)
        {
            clauses.push("TARGET.HasEncryptExecuteDirectory".to_owned());
        }
        self.transfer_clauses(&mentioned, &mut clauses);
        self.time_clauses(&mentioned, &mut clauses);
        self.cuda_clause(&mut clauses);
        self.set_expression("Requirements", &clauses.join(" && "), "requirements");
    }

    fn platform_clauses(&self, mentioned: &Mentioned, clauses: &mut Vec<String>) {
        let context = self.context();
        if !mentioned.machine(&["Arch"]) {
            let arch = context.knob("ARCH").unwrap_or("");
            clauses.push(format!("(TARGET.Arch == \"{arch}\")"));
        }
        if !mentioned.machine(&[
            "OpSys",
            "OpSysAndVer",
            "OpSysLongName",
            "OpSysShortName",
            "OpSysName",
            "OpSysLegacy",
        ]) {
            let opsys = context.knob("OPSYS").unwrap_or("");
            clauses.push(format!("(TARGET.OpSys == \"{opsys}\")"));
        }
    }

    /// The number an attribute is, if it is written as a number.
    fn literal_number(&self, attribute: &str) -> Option<f64> {
        self.ad.get(attribute)?.as_literal()?.as_real()
    }

    fn resource_clauses(&mut self, mentioned: &Mentioned, clauses: &mut Vec<String>) {
        let above = |limit: f64, attribute: &str, job: &Self| {
            job.has(attribute)
                && job
                    .literal_number(attribute)
                    .is_none_or(|number| number > limit)
        };
        if mentioned.machine(&["Disk"]) {
            if self.has("RequestDisk") {
                clauses.push("(TARGET.Disk >= RequestDisk)".to_owned());
            }
            self.obsolete("Disk", "request_disk");
        } else if above(0.0, "RequestDisk", self) {
            clauses.push("(TARGET.Disk >= RequestDisk)".to_owned());
        } else if !self.has("RequestDisk") {
            clauses.push("(TARGET.Disk >= DiskUsage)".to_owned());
        }
        if above(1.0, "RequestMemory", self) {
            clauses.push("(TARGET.Memory >= RequestMemory)".to_owned());
        }
        if mentioned.machine(&["Memory"]) {
            self.obsolete("Memory", "request_memory");
        }
        if !mentioned.machine(&["Cpus"]) && above(1.0, "RequestCpus", self) {
            clauses.push("(TARGET.Cpus >= RequestCpus)".to_owned());
        }
        self.custom_clauses(mentioned, clauses);
    }

    fn obsolete(&mut self, attribute: &str, command: &str) {
        if self.context().says("ENABLE_DEPRECATION_WARNINGS") && self.number.proc == 0 {
            self.warn(
                "requirements",
                format!("requirements refer to TARGET.{attribute}; use {command} instead, which adds what is needed"),
            );
        }
    }

    /// Attributes `Request<Resource>` beyond the usual ones.
    fn custom_clauses(&self, mentioned: &Mentioned, clauses: &mut Vec<String>) {
        let all = self
            .context()
            .says("SUBMIT_GENERATE_CUSTOM_RESOURCE_REQUIREMENTS");
        let mut names: Vec<&str> = self
            .ad
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| {
                name.get(..7)
                    .is_some_and(|prefix| prefix.eq_ignore_ascii_case("Request"))
            })
            .collect();
        names.sort_by_key(|name| name.to_ascii_lowercase());
        for name in names {
            let tag = name.get(7..).unwrap_or("");
            let usual = ["Cpus", "Disk", "Memory"]
                .iter()
                .any(|usual| tag.eq_ignore_ascii_case(usual));
            if usual
                || tag.len() < 2
                || tag.starts_with('_')
                || !(all || tag.eq_ignore_ascii_case("GPUs"))
                || mentioned.machine(&[tag])
            {
                continue;
            }
            match self.ad.eval(name) {
                Value::Integer(number) if number <= 0 => {}
                Value::Real(number) if number <= 0.0 => {}
                Value::Integer(_) | Value::Real(_) | Value::Undefined => {
                    if self.has(&format!("Require{tag}")) {
                        clauses.push(format!(
                            "(countMatches(MY.Require{tag},TARGET.Available{tag}) >= {name})"
                        ));
                    } else {
                        clauses.push(format!("(TARGET.{tag} >= {name})"));
                    }
                }
                Value::String(text) if !text.is_empty() => {
                    clauses.push(format!("regexp({name}, TARGET.{tag})"));
                }
                _ => {}
            }
        }
    }

    /// Either the machine shares our files, or it can transfer them.
    fn transfer_clauses(&mut self, mentioned: &Mentioned, clauses: &mut Vec<String>) {
        const DOMAIN: &str = "(TARGET.FileSystemDomain == MY.FileSystemDomain)";
        let checks_domain = mentioned.machine(&["FileSystemDomain"]);
        let should = self.should_transfer;
        if should == ShouldTransfer::No {
            if !checks_domain {
                clauses.push(DOMAIN.to_owned());
            }
            return;
        }
        if mentioned.machine(&["HasFileTransfer", "HasJobTransferPlugins"]) {
            return;
        }
        let plugins = self.ad.string("TransferPlugins").unwrap_or_default();
        let mut text = if plugins.is_empty() {
            "TARGET.HasFileTransfer"
        } else {
            "TARGET.HasJobTransferPlugins"
        }
        .to_owned();
        let encrypted = [
            "EncryptInputFiles",
            "EncryptOutputFiles",
            "DontEncryptInputFiles",
            "DontEncryptOutputFiles",
        ];
        if encrypted.iter().any(|attribute| self.has(attribute))
            && !mentioned.machine(&["HasPerFileEncryption"])
        {
            text.push_str(" && TARGET.HasPerFileEncryption");
        }
        if self.ad.string("TransferCheckpoint").is_some()
            || self.ad.bool("PreserveRelativePaths") == Some(true)
            || self.ad.string("WhenToTransferOutput").as_deref() == Some("ON_SUCCESS")
        {
            text.push_str(" && versioncmp( split(TARGET.CondorVersion)[1], \"8.9.7\" ) >= 0");
        }
        let methods = self.url_methods(&plugins);
        if !mentioned.machine(&["HasFileTransferPluginMethods"]) {
            for method in &methods {
                text.push_str(&format!(
                    " && stringListIMember(\"{method}\",TARGET.HasFileTransferPluginMethods)"
                ));
            }
        }
        if !methods.is_empty() {
            let list: Vec<&str> = methods.iter().map(String::as_str).collect();
            self.set("WantTransferPluginMethods", list.join(",").as_str());
        }
        clauses.push(if should == ShouldTransfer::IfNeeded && !checks_domain {
            format!("({DOMAIN} || ({text}))")
        } else {
            format!("({text})")
        });
    }

    /// Schemes of the URLs in the job's files that it brings no plug-in for.
    fn url_methods(&mut self, plugins: &str) -> BTreeSet<String> {
        let own: BTreeSet<String> = plugins
            .split(';')
            .filter_map(|plugin| plugin.split_once('='))
            .flat_map(|(methods, _)| methods.split(','))
            .map(|method| method.trim().to_ascii_lowercase())
            .collect();
        let mut found = BTreeSet::new();
        let text = |job: &Self, attribute: &str| job.ad.string(attribute).unwrap_or_default();
        for file in text(self, "TransferInput").split(',') {
            found.extend(scheme(file));
        }
        let destination = text(self, "OutputDestination");
        if !destination.is_empty() {
            match scheme(&destination) {
                Some(scheme) => {
                    found.insert(scheme);
                }
                None => self.warn(
                    "output_destination",
                    format!("output_destination = {destination}: expected a URL"),
                ),
            }
        }
        for remap in text(self, "TransferOutputRemaps").split(';') {
            if let Some((_, target)) = remap.split_once('=') {
                found.extend(scheme(target));
            }
        }
        found.retain(|method| !own.contains(method));
        found
    }

    fn time_clauses(&mut self, mentioned: &Mentioned, clauses: &mut Vec<String>) {
        if self.is_deferred() {
            clauses.push("TARGET.HasJobDeferral".to_owned());
            if !self.has("ScheddInterval") {
                let interval = self.context().knob("SCHEDD_INTERVAL").unwrap_or("300");
                self.set_expression("ScheddInterval", interval, "SCHEDD_INTERVAL");
            }
            clauses.push(
                "(((time() + ScheddInterval) >= (DeferralTime - DeferralPrepTime)) && (time() < (DeferralTime + DeferralWindow)))"
                    .to_owned(),
            );
        }
        if self.ad.bool("WantFTOnCheckpoint") == Some(true)
            && !mentioned.machine(&["HasSelfCheckpointTransfers"])
        {
            clauses.push("TARGET.HasSelfCheckpointTransfers".to_owned());
        }
    }

    fn cuda_clause(&mut self, clauses: &mut Vec<String>) {
        let name = self.present("cuda_version", "CUDAVersion");
        let Some(text) = self.get(name) else {
            return;
        };
        let (major, minor) = text.split_once('.').unwrap_or((text.as_str(), "0"));
        let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
            self.fail(
                name,
                format!("{name} = {text}: expected a version such as 11 or 11.2"),
            );
            return;
        };
        let version = if major < 1000 {
            i64::from(major) * 1000 + i64::from(minor % 100)
        } else {
            i64::from(major)
        };
        self.set("CUDAVersion", version);
        clauses.push("CUDAVersion <= TARGET.CUDAMaxSupportedVersion".to_owned());
    }
}
