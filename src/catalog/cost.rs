//! What checking against a schema can cost at most. Pure.
//!
//! A schema of a few kilobytes can ask for 2^40 steps: `d0` is all of `d1` and `d1`, `d1` all of `d2` and `d2`, and so
//! on; or it refers to itself twice, and the steps double with each level of the arguments. A check cannot be
//! interrupted, so the cost is bounded before: the size of the schema with all its references written out, times the
//! number of references back to what they are part of, to the power of the arguments' depth. What costs too much is
//! checked by the server alone.

use std::collections::HashMap;

use serde_json::Value;

/// Where a reference leads is looked up by these; references of other kinds (`$dynamicRef`, names) cannot be followed.
const REFERENCE: &str = "$ref";
const UNFOLLOWED: [&str; 2] = ["$dynamicRef", "$recursiveRef"];
/// A part with a name of its own is another document to the references in it (JSON Schema core, section 8.2.1): where they
/// lead is not where the whole has anything under the same pointer. The second is that of draft 4.
const OWN_NAME: [&str; 2] = ["$id", "id"];
/// Keywords whose schemas apply to the same value as the one that they stand in.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// The largest schema that is worth compiling, all its references written out.
const MOST_SIZE: u64 = 1_000_000;
/// What one pattern is counted as: it is compiled, and then compared with all of a text.
const PATTERN: u64 = 300;
/// So many bytes of a text count as one more part: patterns and lengths go through all of it.
const BYTES_OF_A_PART: usize = 32;
/// How deep references and schemas may nest.
const DEEPEST: usize = 256;

/// What a schema asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Its size with all references written out.
    size: u64,
    /// References back to what they are part of.
    recursions: u64,
}

/// A schema whose cost cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untold {
    /// It refers to itself for the very same value, without end.
    #[error("it refers to itself without end")]
    Endless,
    /// It refers by a name, or to nowhere.
    #[error("its references cannot be followed")]
    Unfollowed,
    /// Deeper than anything sensible.
    #[error("it nests too deep")]
    TooDeep,
}

impl Cost {
    /// The cost of a schema.
    pub(super) fn of(schema: &Value) -> Result<Self, Untold> {
        let mut walk = Walk {
            root: schema,
            known: HashMap::new(),
            open: Vec::new(),
            recursions: 0,
            refers: false,
            has_parts_of_their_own: false,
        };
        let size = walk.size(schema, Place::Same)?;
        if walk.refers && walk.has_parts_of_their_own {
            return Err(Untold::Unfollowed);
        }
        Ok(Self { size, recursions: walk.recursions })
    }

    /// Whether it is worth compiling.
    pub(super) const fn is_bearable(self) -> bool {
        self.size <= MOST_SIZE
    }

    /// The steps that a check of these arguments takes at most.
    pub(super) fn steps(self, arguments: &Value) -> u64 {
        let (parts, depth) = extent(arguments);
        self.size.saturating_mul(self.recursions.max(1).saturating_pow(depth)).saturating_mul(parts)
    }
}

/// Whether a part of a schema applies to the value that the whole applies to, or to a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Same,
    Part,
}

struct Walk<'a> {
    root: &'a Value,
    /// Sizes that were found already, by where the schema is.
    known: HashMap<*const Value, u64>,
    /// The schemas that are being looked at, outermost first, and how each was come to.
    open: Vec<(*const Value, Place)>,
    recursions: u64,
    /// There is a reference.
    refers: bool,
    /// There is a part with a name of its own.
    has_parts_of_their_own: bool,
}

impl<'a> Walk<'a> {
    fn size(&mut self, schema: &'a Value, place: Place) -> Result<u64, Untold> {
        let here = std::ptr::from_ref(schema);
        if let Some(at) = self.open.iter().position(|(open, _)| *open == here) {
            let in_place = self.open[at + 1..].iter().all(|(_, place)| *place == Place::Same);
            if in_place && place == Place::Same {
                return Err(Untold::Endless);
            }
            self.recursions += 1;
            return Ok(1);
        }
        if let Some(known) = self.known.get(&here) {
            return Ok(*known);
        }
        if self.open.len() >= DEEPEST {
            return Err(Untold::TooDeep);
        }
        self.open.push((here, place));
        let size = match schema {
            Value::Object(members) => self.object(members)?,
            Value::Array(elements) => self.all(elements.iter(), Place::Same)?,
            _ => 1,
        };
        self.open.pop();
        self.known.insert(here, size);
        Ok(size)
    }

    fn object(&mut self, members: &'a serde_json::Map<String, Value>) -> Result<u64, Untold> {
        let mut size = 1_u64;
        for (keyword, value) in members {
            let more = match (keyword.as_str(), value) {
                (REFERENCE, Value::String(reference)) => {
                    self.refers = true;
                    self.size(self.target(reference)?, Place::Same)?
                }
                (keyword, Value::String(_)) if OWN_NAME.contains(&keyword) => {
                    self.has_parts_of_their_own |= self.open.len() > 1;
                    0
                }
                (keyword, _) if UNFOLLOWED.contains(&keyword) => return Err(Untold::Unfollowed),
                // Definitions cost where they are referred to, and notes nowhere.
                ("$defs" | "definitions" | "default" | "examples", _) => 0,
                // What is checked may be compared with each of these.
                ("const" | "enum", values) => extent(values).0,
                ("pattern", _) => PATTERN,
                // Not a schema but a schema for each name, which may be any word.
                ("properties", Value::Object(named)) => self.all(named.values(), Place::Part)?,
                ("patternProperties", Value::Object(named)) => {
                    let patterns = PATTERN.saturating_mul(named.len() as u64);
                    self.all(named.values(), Place::Part)?.saturating_add(patterns)
                }
                ("dependentSchemas" | "dependencies", Value::Object(named)) => {
                    self.all(named.values(), Place::Same)?
                }
                (keyword, value) if IN_PLACE.contains(&keyword) => self.size(value, Place::Same)?,
                (_, value) => self.size(value, Place::Part)?,
            };
            size = size.saturating_add(more);
        }
        Ok(size)
    }

    fn all(&mut self, mut values: impl Iterator<Item = &'a Value>, place: Place) -> Result<u64, Untold> {
        values.try_fold(1_u64, |size, value| Ok(size.saturating_add(self.size(value, place)?)))
    }

    /// Where a reference leads: a JSON pointer in a fragment (RFC 6901, section 6).
    fn target(&self, reference: &str) -> Result<&'a Value, Untold> {
        let pointer = reference.strip_prefix('#').ok_or(Untold::Unfollowed)?;
        let pointer =
            percent_encoding::percent_decode_str(pointer).decode_utf8().map_err(|_| Untold::Unfollowed)?;
        self.root.pointer(&pointer).ok_or(Untold::Unfollowed)
    }
}

/// Of how many values a value is made, itself included, where a long text counts as many; and how deep it nests.
fn extent(value: &Value) -> (u64, u32) {
    let of_text = |text: &str| (text.len() / BYTES_OF_A_PART) as u64;
    let of_all = |all: &mut dyn Iterator<Item = &Value>| {
        let (parts, depth) = all.map(extent).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1.max(one.1)));
        (parts + 1, depth + 1)
    };
    match value {
        Value::Array(elements) => of_all(&mut elements.iter()),
        Value::Object(members) => {
            let (parts, depth) = of_all(&mut members.values());
            (parts + members.keys().map(|name| of_text(name)).sum::<u64>(), depth)
        }
        Value::String(text) => (1 + of_text(text), 0),
        Value::Null | Value::Bool(_) | Value::Number(_) => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_that_doubles_with_each_reference_is_counted_out() {
        let doubling = |levels: u32| {
            let definition = |level: u32| {
                let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
                (format!("d{level}"), json!({"allOf": [next.clone(), next]}))
            };
            let mut definitions: serde_json::Map<_, _> = (0..levels).map(definition).collect();
            definitions.insert(format!("d{levels}"), json!({"type": "object"}));
            json!({"$ref": "#/$defs/d0", "$defs": definitions})
        };
        let steps = |levels| Cost::of(&doubling(levels)).unwrap().steps(&json!({}));
        assert!(steps(4) < 1_000 && steps(40) > 1 << 40 && steps(70) == u64::MAX);
        assert!(
            Cost::of(&doubling(4)).unwrap().is_bearable() && !Cost::of(&doubling(40)).unwrap().is_bearable()
        );
    }

    #[test]
    fn a_tree_is_cheap_however_deep_and_a_bush_is_not() {
        let tree = json!({"properties": {"children": {"items": {"$ref": "#"}}}});
        let nested = |levels| (0..levels).fold(json!({}), |inner, _| json!({"a": inner}));
        assert!(Cost::of(&tree).unwrap().steps(&nested(100)) < 10_000);
        let twice = json!({"$ref": "#"});
        let bush = json!({"properties": {"a": {"allOf": [twice.clone(), twice]}}});
        assert!(Cost::of(&bush).unwrap().steps(&nested(3)) < 10_000);
        assert!(Cost::of(&bush).unwrap().steps(&nested(40)) > 1 << 40);
    }

    #[test]
    fn what_cannot_be_counted_says_so() {
        let cases = [
            (json!({"$ref": "#"}), Untold::Endless),
            (json!({"anyOf": [{"not": {"$ref": "#"}}]}), Untold::Endless),
            (json!({"$ref": "#/nowhere"}), Untold::Unfollowed),
            (json!({"$ref": "#name"}), Untold::Unfollowed),
            (json!({"$ref": "http://127.0.0.1/"}), Untold::Unfollowed),
            (json!({"items": {"$dynamicRef": "#x"}}), Untold::Unfollowed),
            (json!({"dependencies": {"default": {"$ref": "#"}}}), Untold::Endless),
            (json!({"items": {"$id": "a", "$ref": "#/$defs/d"}, "$defs": {"d": {}}}), Untold::Unfollowed),
            (
                json!({"items": {"id": "a", "$ref": "#/definitions/d"}, "definitions": {"d": {}}}),
                Untold::Unfollowed,
            ),
        ];
        for (schema, expected) in cases {
            assert_eq!(Cost::of(&schema), Err(expected), "{schema}");
        }
    }

    #[test]
    fn what_is_compared_again_and_again_is_counted_as_often() {
        let steps = |schema: &Value, arguments: &Value| Cost::of(schema).unwrap().steps(arguments);
        let (text, many) = (json!("x".repeat(1 << 20)), json!(vec![7; 10_000]));
        for (schema, arguments) in [
            (json!({"allOf": vec![json!({"pattern": "^a"}); 100]}), &text),
            (json!({"patternProperties": {"^a": true}}), &json!({"x".repeat(1 << 20): 1})),
            (json!({"items": {"enum": vec!["one of many"; 10_000]}}), &many),
            (json!({"items": {"const": vec!["much"; 10_000]}}), &many),
        ] {
            assert!(steps(&schema, arguments) > 1_000_000, "{}", schema.to_string().len());
            assert!(steps(&schema, &json!({"a": 1})) < 100_000);
        }
    }

    #[test]
    fn a_name_of_its_own_matters_only_where_references_are_looked_up_from_it() {
        let whole = json!({"$id": "a", "items": {"$ref": "#/$defs/d"}, "$defs": {"d": {}}});
        let plain =
            json!({"items": {"$id": "a"}, "properties": {"id": {"$ref": "#/$defs/d"}}, "$defs": {"d": {}}});
        assert!(Cost::of(&whole).is_ok());
        assert!(Cost::of(&json!({"items": {"$id": "a"}})).is_ok());
        assert_eq!(Cost::of(&plain), Err(Untold::Unfollowed));
        assert!(Cost::of(&json!({"properties": {"id": {"$ref": "#/$defs/d"}}, "$defs": {"d": {}}})).is_ok());
    }

    #[test]
    fn parts_are_counted_and_depth_is_what_encloses() {
        for (value, expected) in [
            (json!(1), (1, 0)),
            (json!([]), (1, 1)),
            (json!({"a": [{}], "b": 1}), (4, 3)),
            (json!("x".repeat(64)), (3, 0)),
        ] {
            assert_eq!(extent(&value), expected, "{value}");
        }
    }
}
