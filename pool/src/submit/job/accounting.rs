//! Who pays: accounting groups and concurrency limits.

use super::Job;
use crate::submit::queue_args::words;
use crate::submit::reader::is_attribute;

impl Job<'_, '_> {
    pub(super) fn accounting(&mut self) {
        let group_name = self.present("accounting_group", "AccountingGroup");
        let mut group = self.get(group_name);
        if self.flag("nice_user", Some("NiceUser"), false) {
            let nice = self
                .context()
                .knob("NICE_USER_ACCOUNTING_GROUP_NAME")
                .map(str::to_owned);
            if group.is_none() {
                group = nice;
            } else if group != nice {
                self.warn(
                    "nice_user",
                    "nice_user is ignored, because accounting_group is given too",
                );
            }
            self.set("MaxJobRetirementTime", 0);
        }
        let user_name = self.present("accounting_group_user", "AcctGroupUser");
        let user = self.get(user_name);
        if group.is_none() && user.is_none() {
            return;
        }
        let user = user.unwrap_or_else(|| self.context().owner.clone());
        for (name, value) in [
            (group_name, group.as_deref()),
            (user_name, Some(user.as_str())),
        ] {
            if let Some(value) = value
                && value.contains(char::is_whitespace)
            {
                self.fail(
                    name,
                    format!("{name} = {value}: expected a name without blanks"),
                );
            }
        }
        self.set("AcctGroupUser", user.as_str());
        match group {
            Some(group) => {
                self.set("AcctGroup", group.as_str());
                self.set("AccountingGroup", format!("{group}.{user}").as_str());
            }
            None => self.set("AccountingGroup", user.as_str()),
        }
    }

    pub(super) fn concurrency(&mut self) {
        let list = self.get("concurrency_limits");
        let expression = self.get("concurrency_limits_expr");
        match (list, expression) {
            (Some(_), Some(_)) => self.fail(
                "concurrency_limits_expr",
                "concurrency_limits and concurrency_limits_expr are both given: expected one of them",
            ),
            (Some(list), None) => {
                let mut limits = words(&list.to_ascii_lowercase());
                if let Some(wrong) = limits.iter().find(|limit| !is_limit(limit)) {
                    self.fail(
                        "concurrency_limits",
                        format!("concurrency_limits: {wrong:?} is no limit: expected NAME, NAME:COUNT or GROUP.NAME"),
                    );
                    return;
                }
                limits.sort();
                self.set("ConcurrencyLimits", limits.join(",").as_str());
            }
            (None, Some(text)) => {
                self.set_expression("ConcurrencyLimits", &text, "concurrency_limits_expr");
            }
            (None, None) => {}
        }
    }
}

/// Whether the text names a limit (`htcondor:src/condor_utils/NegotiationUtils.cpp`, `ParseConcurrencyLimit`).
fn is_limit(text: &str) -> bool {
    let name = text.split_once(':').map_or(text, |(name, _)| name);
    let part = |text: &str| is_attribute(text) && !text.contains('.');
    match name.split_once('.') {
        Some((group, name)) => part(group) && part(name),
        None => part(name),
    }
}
