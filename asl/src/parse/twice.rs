//! States that a text names twice. JSON readers keep the last of two equal keys, so that a state would
//! be lost without a word.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The places of states whose name stands before in the same `States`. A text that is no JSON has none.
pub(super) fn states(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let walk = Walk {
        path: String::new(),
        names_states: false,
        found: &mut found,
    };
    // What is wrong with the text is told by the one who reads it for its content.
    let _ = walk.deserialize(&mut reader);
    found
}

struct Walk<'f> {
    path: String,
    /// Whether the keys of this object are names of states.
    names_states: bool,
    found: &'f mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = format!("{}/{key}", self.path);
            if self.names_states && seen.contains(&key) {
                self.found.push(path.clone());
            }
            // Below a state, only these hold flows; elsewhere a key `States` is the user's own.
            let leads_to_flows = self.names_states
                || matches!(
                    key.as_str(),
                    "States" | "Branches" | "ItemProcessor" | "Iterator"
                );
            if leads_to_flows {
                let names_states = key == "States" && !self.names_states;
                map.next_value_seed(Walk {
                    path,
                    names_states,
                    found: self.found,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            seen.insert(key);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for i in 0.. {
            let path = format!("{}[{i}]", self.path);
            if items
                .next_element_seed(Walk {
                    path,
                    names_states: false,
                    found: self.found,
                })?
                .is_none()
            {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_named_twice_is_found_in_any_flow() {
        let text = r#"{"StartAt": "A", "States": {
            "A": {"Type": "Parallel", "Branches": [{"States": {"B": {}, "B": {}}}]},
            "States": {"Type": "Pass", "Parameters": {"States": {"x": 1, "x": 2}}},
            "A": {"Type": "Pass"}}}"#;
        assert_eq!(
            states(text),
            ["/States/A/Branches[0]/States/B", "/States/A"]
        );
    }

    #[test]
    fn fields_that_stand_twice_are_none_of_its_business() {
        assert_eq!(
            states(r#"{"States": {"A": {"Type": "Pass", "Type": "Pass"}}}"#),
            [""; 0]
        );
        assert_eq!(states("{"), [""; 0]);
        assert_eq!(states(&"[".repeat(10_000)), [""; 0]);
    }
}
