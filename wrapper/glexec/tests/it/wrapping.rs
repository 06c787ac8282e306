//! Requirement G7 against the historical format, as Perl's own libraries write and read it.

use crate::cell::in_cell;

/// Reads the format with Perl's libraries and prints `NAME=VALUE` with NUL behind each.
const PERL_READ: &str = r#"perl -MCompress::Zlib -MMIME::Base64 -e '
    my $plain = uncompress(decode_base64($ENV{GLEXEC_ENV})); defined $plain or die "no zlib";
    print join("", map { decode_base64($_) . "\0" } sort split(/ /, $plain));'"#;

/// Writes it.
const PERL_WRITE: &str = r#"perl -MCompress::Zlib -MMIME::Base64 -e '
    print encode_base64(compress(join("", map { encode_base64("$_=$ENV{$_}", "") . " " } keys %ENV)), "");'"#;

#[test]
fn g7_perl_reads_what_we_write_and_we_read_what_perl_writes() {
    in_cell(|cell| {
        let odd = "env -i A='a\nb=c  ' H=h 'UTF=Grüße' HOME=/x USER=x _=y PATH=$PATH";
        let said = cell.run(&format!(
            "W=$({odd} /opt/glite/sbin/glexec_wrapenv.pl --exclude=PATH) && GLEXEC_ENV=$W {PERL_READ}"
        ));
        assert_eq!(said.status, Some(0), "{said:?}");
        let mut read: Vec<_> = said.out.split_terminator('\0').collect();
        read.sort_unstable();
        assert_eq!(read, ["A=a\nb=c  ", "H=h", "UTF=Grüße"]);

        let said = cell.run(&format!(
            "export GLEXEC_ENV=\"$({odd} {PERL_WRITE})\"; \
             HOME=/mine /opt/glite/sbin/glexec_unwrapenv.pl --exclude=PATH -- \
             /bin/sh -c 'printf \"%s|%s|%s|%s\" \"$A\" \"$H\" \"$UTF\" \"$HOME\"'"
        ));
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(0), "a\nb=c  |h|Grüße|/mine"),
            "{said:?}"
        );
    });
}

#[test]
fn g7_an_environment_crosses_the_switch() {
    in_cell(|cell| {
        let said = cell.run(
            "export JOB='x y' LIST='1\n2'; export GLEXEC_ENV=`/opt/glite/sbin/glexec_wrapenv.pl`; \
             $GLEXEC /opt/glite/sbin/glexec_unwrapenv.pl -- 'cd /; id -un; echo \"$JOB $LIST $HOME $USER\"'",
        );
        let expected = "alice\nx y 1\n2 /home/alice alice\n";
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(0), expected),
            "{said:?}"
        );
    });
}
