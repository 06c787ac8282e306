//! `STARTD_ATTRS` and what it names: `htcondor:src/condor_utils/condor_config.cpp`, `config_fill_ad`.

use std::collections::BTreeMap;

use super::Attribute;
use super::error::Problem;
use super::reader::Reader;

/// The attributes of every slot.
pub(super) fn common(reader: &mut Reader<'_>) -> Vec<Attribute> {
    let mut names = Vec::new();
    for knob in ["STARTD_ATTRS", "STARTD_EXPRS"] {
        let (knob, list) = reader.list(knob);
        add(reader, &mut names, knob, list);
    }
    names
        .iter()
        .filter_map(|name| attribute(reader, name, None))
        .collect()
}

/// The attributes of the slots that differ from the others.
pub(super) fn of_slots(
    reader: &mut Reader<'_>,
    common: &[Attribute],
) -> BTreeMap<u32, Vec<Attribute>> {
    let mut slots = BTreeMap::new();
    let numbers: Vec<u32> = reader
        .config
        .iter()
        .filter_map(|knob| slot_number(knob.name))
        .collect();
    for number in numbers {
        if slots.contains_key(&number) {
            continue;
        }
        let attributes = of_slot(reader, number, common);
        if attributes != common {
            slots.insert(number, attributes);
        }
    }
    slots
}

fn of_slot(reader: &mut Reader<'_>, number: u32, common: &[Attribute]) -> Vec<Attribute> {
    let prefix = format!("SLOT{number}_");
    let mut names: Vec<String> = common.iter().map(|(name, _)| name.clone()).collect();
    for knob in ["STARTD_ATTRS", "STARTD_EXPRS"].map(|knob| format!("{prefix}{knob}")) {
        let list = reader.value(&knob).unwrap_or_default();
        let list = list
            .split([',', ' ', '\t', '\n'])
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        add(reader, &mut names, &knob, list);
    }
    // An attribute may also have a value for this slot only.
    for knob in ["STARTD_ATTRS", "STARTD_EXPRS"] {
        let list = reader.config.list(knob).unwrap_or_default();
        add(reader, &mut names, knob, list);
    }
    names
        .iter()
        .filter_map(|name| match reader.config.raw(&format!("{prefix}{name}")) {
            Some(raw) if !raw.is_empty() => attribute(reader, name, Some(&prefix)),
            _ => match common
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                Some(known) => Some(known.clone()),
                None => attribute(reader, name, None),
            },
        })
        .collect()
}

fn add(reader: &mut Reader<'_>, names: &mut Vec<String>, knob: &str, list: Vec<String>) {
    for name in list {
        if names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            continue;
        }
        if is_attribute(&name) {
            names.push(name);
        } else {
            let problem = Problem::AttributeName { name };
            // Seen once for all slots is enough.
            if !reader
                .errors
                .iter()
                .any(|error| error.problem() == &problem)
            {
                reader.fail(knob, problem);
            }
        }
    }
}

fn attribute(reader: &mut Reader<'_>, name: &str, prefix: Option<&str>) -> Option<Attribute> {
    let knob = format!("{}{name}", prefix.unwrap_or(""));
    if reader.config.raw(&knob).is_none_or(str::is_empty) {
        let warning = format!("STARTD_ATTRS: {name} has no value, so it is not published");
        if !reader.warnings.contains(&warning) {
            reader.warnings.push(warning);
        }
        return None;
    }
    Some((name.to_owned(), reader.expression_of(&knob)?))
}

/// The number in `SLOT7_NAME`.
fn slot_number(name: &str) -> Option<u32> {
    slot_knob(name).map(|(number, _)| number)
}

/// The number in `SLOT7_NAME`, and the rest of it.
pub(super) fn slot_knob(name: &str) -> Option<(u32, &str)> {
    let rest = name
        .get(..4)
        .filter(|head| head.eq_ignore_ascii_case("SLOT"))
        .and_then(|_| name.get(4..))?;
    let (number, rest) = rest.split_once('_')?;
    Some((number.parse().ok().filter(|&number| number > 0)?, rest))
}

fn is_attribute(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
