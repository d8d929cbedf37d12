//! Plain values (numbers, texts, lists and dictionaries of them) beside the tensors in a PyTorch file, as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::super::{CONFIG, DESCRIPTION, TEXTS};
use super::object::{Id, Object, Pickle};

/// The keys that are read; other programs store other things under other keys.
const KEYS: [&str; 3] = [DESCRIPTION, CONFIG, TEXTS];
/// The largest depth of nested dictionaries.
const MAX_DEPTH: usize = 32;
/// The largest number of values that are read. A shared value counts each time.
const MAX_VALUES: usize = 100_000;

/// The values under [`KEYS`] in the outermost dictionary. A value that contains anything that JSON cannot represent is left out.
pub(super) fn beside_tensors(pickle: &Pickle<'_>) -> BTreeMap<String, Value> {
    let Object::Dictionary(entries) = pickle.get(pickle.root) else { return BTreeMap::new() };
    let mut left = MAX_VALUES;
    let value = |&(key, value): &(Id, Id)| match pickle.get(key) {
        Object::Text(key) if KEYS.contains(key) => Some(((*key).to_string(), json(pickle, value, 0, &mut left)?)),
        _ => None,
    };
    entries.iter().filter_map(value).collect()
}

fn json(pickle: &Pickle<'_>, id: Id, depth: usize, left: &mut usize) -> Option<Value> {
    if depth == MAX_DEPTH || *left == 0 {
        return None;
    }
    *left -= 1;
    Some(match pickle.get(id) {
        Object::None => Value::Null,
        Object::Bool(value) => Value::Bool(*value),
        Object::Int(value) => Value::Number(Number::from_i128(*value)?),
        Object::Float(value) => Value::Number(Number::from_f64(*value)?),
        Object::Text(text) => Value::String((*text).to_string()),
        Object::List(items) => {
            Value::Array(items.iter().map(|&item| json(pickle, item, depth + 1, left)).collect::<Option<_>>()?)
        }
        Object::Dictionary(entries) => {
            let entry = |&(key, value): &(Id, Id)| match pickle.get(key) {
                Object::Text(key) => Some(((*key).to_string(), json(pickle, value, depth + 1, left)?)),
                _ => None,
            };
            Value::Object(entries.iter().map(entry).collect::<Option<Map<_, _>>>()?)
        }
        _ => return None,
    })
}
