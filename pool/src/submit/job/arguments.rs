//! Arguments and environment.

use super::Job;
use crate::submit::environment::{Environment, Filter};
use crate::submit::quoting;

impl Job<'_, '_> {
    pub(super) fn arguments(&mut self) {
        let name = self.present("arguments", "Args");
        let either = self.get(name);
        let new = self.get("arguments2");
        let both_allowed = self.flag("allow_arguments_v1", None, false);
        if either.is_some() && new.is_some() && !both_allowed {
            self.fail(
                "arguments2",
                "arguments and arguments2 are both given: expected one of them, or allow_arguments_v1 = true",
            );
            return;
        }
        let (name, text) = match (new, either) {
            (Some(text), _) => ("arguments2", text),
            (None, Some(text)) => (name, text),
            (None, None) => {
                if !self.has("Args") && !self.has("Arguments") {
                    self.set("Arguments", "");
                }
                return;
            }
        };
        let outcome = if name == "arguments2" || quoting::is_quoted(&text) {
            quoting::unquote(&text)
                .and_then(|raw| quoting::split(&raw))
                .map(|words| ("Arguments", quoting::join(words.iter().map(String::as_str))))
        } else {
            quoting::unescape_old(&text).map(|plain| {
                let words: Vec<&str> = plain.split_ascii_whitespace().collect();
                ("Args", words.join(" "))
            })
        };
        match outcome {
            Ok((attribute, value)) => self.set(attribute, value.as_str()),
            Err(why) => self.fail(name, format!("{name} = {text}: {why}")),
        }
    }

    pub(super) fn environment(&mut self) {
        let name = self.present("environment", "env");
        let either = self.get(name);
        let new = self.get("environment2");
        let both_allowed = self.flag("allow_environment_v1", None, false);
        if either.is_some() && new.is_some() && !both_allowed {
            self.fail(
                "environment2",
                "environment and environment2 are both given: expected one of them, or allow_environment_v1 = true",
            );
            return;
        }
        let old_limits = either.is_some() && new.is_none();
        // Who writes env in the old syntax gets it in the old syntax.
        let prefers_old = old_limits
            && self
                .get("env")
                .is_some_and(|text| !quoting::is_quoted(&text));
        let mut environment = Environment::default();
        let outcome = match (&new, &either) {
            (Some(text), _) => environment
                .add_quoted(text)
                .map_err(|why| format!("environment2 = {text}: {why}")),
            (None, Some(text)) => environment
                .add(text)
                .map_err(|why| format!("{name} = {text}: {why}")),
            (None, None) => Ok(()),
        };
        if let Err(message) = outcome {
            let name = if new.is_some() { "environment2" } else { name };
            self.fail(name, message);
            return;
        }
        self.import(&mut environment, old_limits);
        let has_old = self.has("Env");
        let has_new = self.has("Environment");
        if either.is_none() && new.is_none() && environment.is_empty() && (has_old || has_new) {
            return;
        }
        if prefers_old || has_old {
            match environment.old() {
                Ok(text) => {
                    self.set("Env", text.as_str());
                    self.set("EnvDelim", ";");
                }
                Err(why) => self.fail(name, format!("{name}: {why}")),
            }
        }
        if !prefers_old || has_new {
            self.set("Environment", environment.quoted().as_str());
        }
    }

    /// `getenv`.
    fn import(&mut self, environment: &mut Environment, old: bool) {
        let name = self.present("getenv", "get_env");
        let Some(text) = self.get(name) else {
            return;
        };
        let filter = match self.macros().boolean(&text) {
            Some(false) => return,
            Some(true) if !self.context().says("SUBMIT_ALLOW_GETENV") => {
                self.fail(
                    name,
                    "getenv = true is not allowed by the configuration (SUBMIT_ALLOW_GETENV): expected a list of names",
                );
                return;
            }
            Some(true) => Filter::all(old),
            None => Filter::parse(&text, old),
        };
        environment.import(&self.context().environment, &filter);
    }
}
