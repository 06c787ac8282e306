//! `request_cpus` and its like.

use classad::Expr;

use super::Job;
use super::units;

/// The resources every job asks for: command, attribute, knob of the default, bytes in a unit.
const KNOWN: [(&str, &str, &str, Option<i64>); 4] = [
    (
        "request_cpus",
        "RequestCpus",
        "JOB_DEFAULT_REQUESTCPUS",
        None,
    ),
    (
        "request_gpus",
        "RequestGPUs",
        "JOB_DEFAULT_REQUESTGPUS",
        None,
    ),
    (
        "request_disk",
        "RequestDisk",
        "JOB_DEFAULT_REQUESTDISK",
        Some(1 << 10),
    ),
    (
        "request_memory",
        "RequestMemory",
        "JOB_DEFAULT_REQUESTMEMORY",
        Some(1 << 20),
    ),
];

/// Names that people write for others.
const MISTAKEN: [(&str, &str); 5] = [
    ("request_cpu", "request_cpus"),
    ("request_gpu", "request_gpus"),
    ("request_mem", "request_memory"),
    ("request_gpu_memory", "gpus_minimum_memory"),
    ("request_gpus_memory", "gpus_minimum_memory"),
];

impl Job<'_, '_> {
    pub(super) fn request_resources(&mut self) {
        self.request_others();
        for (command, attribute, knob, base) in KNOWN {
            let name = self.present(command, attribute);
            let text = match self.get(name) {
                Some(text) => text,
                None if self.has(attribute) => continue,
                None => match self.context().knob(knob) {
                    Some(text) => text.to_owned(),
                    None => continue,
                },
            };
            self.request(name, attribute, base, &text);
        }
        self.gpu_limits();
    }

    fn request(&mut self, name: &str, attribute: &str, base: Option<i64>, text: &str) {
        if let Some(base) = base
            && let Some(size) = units::parse(text, base)
        {
            self.missing_unit(name, text, size);
            self.set(attribute, size.amount);
        } else if !text.eq_ignore_ascii_case("undefined") {
            self.set_expression(attribute, text, name);
        }
    }

    /// `SUBMIT_REQUEST_MISSING_UNITS`: the administrator wants units.
    fn missing_unit(&mut self, name: &str, text: &str, size: units::Size) {
        if size.has_unit {
            return;
        }
        let message = format!("{name} = {text}: expected a unit behind the number (K, M, G or T)");
        match self.context().knob("SUBMIT_REQUEST_MISSING_UNITS") {
            None => {}
            Some(knob) if knob.eq_ignore_ascii_case("error") => self.fail(name, message),
            Some(_) => self.warn(name, message),
        }
    }

    /// `request_<anything>`.
    fn request_others(&mut self) {
        let names: Vec<String> = self
            .macros()
            .entries()
            .map(|(name, ..)| name)
            .filter(|name| {
                name.get(..8)
                    .is_some_and(|prefix| prefix.eq_ignore_ascii_case("request_"))
            })
            .map(str::to_owned)
            .collect();
        for name in names {
            if KNOWN
                .iter()
                .any(|(command, ..)| name.eq_ignore_ascii_case(command))
            {
                continue;
            }
            if let Some((wrong, right)) = MISTAKEN
                .iter()
                .find(|(wrong, _)| name.eq_ignore_ascii_case(wrong))
            {
                self.macros().mark(&name);
                self.warn(
                    &name,
                    format!("{wrong} is no submit command and is ignored; did you mean {right}?"),
                );
                continue;
            }
            let tag = name.get(8..).unwrap_or("");
            if tag.len() < 2 || tag.starts_with('_') {
                continue;
            }
            if let Some(text) = self.get(&name) {
                self.set_expression(&format!("Request{tag}"), &text, &name);
            }
        }
    }

    fn gpu_limits(&mut self) {
        if !self.has("RequestGPUs") {
            return;
        }
        for (attribute, name) in [
            ("RequireGPUs", "require_gpus"),
            ("GPUsMinCapability", "gpus_minimum_capability"),
            ("GPUsMaxCapability", "gpus_maximum_capability"),
        ] {
            self.copy_expression(attribute, name);
        }
        let name = self.present("gpus_minimum_memory", "GPUsMinMemory");
        if let Some(text) = self.get(name) {
            self.request(name, "GPUsMinMemory", Some(1 << 20), &text);
        }
        let name = self.present("gpus_minimum_runtime", "GPUsMinRuntime");
        if let Some(text) = self.get(name) {
            match runtime_version(&text) {
                Some(version) => self.set("GPUsMinRuntime", version),
                None => self.set_expression("GPUsMinRuntime", &text, name),
            }
        }
    }

    /// The limits become part of `RequireGPUs`, but for what the user's own expression looks at already.
    pub(super) fn require_gpus(&mut self) {
        if !self.has("RequestGPUs") {
            return;
        }
        let own = self.ad.get("RequireGPUs").cloned();
        let mentioned = own.as_ref().map(Expr::references).unwrap_or_default();
        let looks_at = |name: &str| {
            mentioned
                .unscoped
                .iter()
                .chain(&mentioned.my)
                .any(|found| found.as_str().eq_ignore_ascii_case(name))
        };
        let clauses: Vec<String> = [
            ("Capability", ">=", "GPUsMinCapability"),
            ("Capability", "<=", "GPUsMaxCapability"),
            ("GlobalMemoryMb", ">=", "GPUsMinMemory"),
            ("MaxSupportedVersion", ">=", "GPUsMinRuntime"),
        ]
        .into_iter()
        .filter(|(property, _, limit)| self.has(limit) && !looks_at(property))
        .map(|(property, operator, limit)| format!("{property} {operator} {limit}"))
        .collect();
        if clauses.is_empty() {
            return;
        }
        let mut text = own.map_or_else(String::new, |own| {
            format!("{} && ", own.operand_of_and().to_old())
        });
        text.push_str(&clauses.join(" && "));
        self.set_expression("RequireGPUs", &text, "require_gpus");
    }
}

/// `12.1` and `12010` are the same version of CUDA.
fn runtime_version(text: &str) -> Option<i64> {
    let (major, minor) = match text.split_once('.') {
        Some((major, minor)) => (major, Some(minor.parse::<i64>().ok()?)),
        None => (text, None),
    };
    let major: i64 = major.parse().ok().filter(|major| *major >= 0)?;
    match minor {
        None if major > 1000 => Some(major),
        None => Some(major * 1000),
        Some(minor) if (0..100).contains(&minor) => Some(major * 1000 + minor * 10),
        Some(_) => None,
    }
}
