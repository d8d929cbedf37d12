//! The stack machine of pickles: runs the instructions that PyTorch writes (protocols 2 to 5) and builds a description.
//!
//! Objects are in one list and refer to each other by index, so that nothing here recurses as deep as a hostile file nests, not
//! even freeing memory. Every instruction makes at most one object; copies count against a budget.

use std::collections::BTreeMap;

use super::super::stored::StoredDtype;
use super::Parsed;
use super::globals::{Role, role};
use super::object::{Id, Object, Pickle, StorageMark, TensorMark};

/// The largest number of instructions, and of objects that they copy, in one pickle. PyTorch needs about thirty for a tensor.
const MAX_WORK: usize = 4_000_000;
/// The largest number of axes of a tensor.
const MAX_AXES: usize = 32;

/// The number of a function's arguments that are read.
const MAX_ARGUMENTS: usize = 8;

/// Runs the pickle at the beginning of `input`.
///
/// # Errors
///
/// If it is damaged, uses an instruction or a name that PyTorch does not, or is too long.
pub(super) fn parse(input: &[u8], torch_script: bool) -> Parsed<Pickle<'_>> {
    let mut machine = Machine {
        input,
        at: 0,
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        work: 0,
        torch_script,
    };
    loop {
        let start = machine.at;
        let opcode = machine.u8()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { objects: machine.objects, root, consumed: machine.at });
        }
        machine.spend(1)?;
        machine.run(opcode).map_err(|what| format!("its pickle {what} (at byte {start})"))?;
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    /// The height of the stack at each mark.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    work: usize,
    torch_script: bool,
}

impl<'a> Machine<'a> {
    #[expect(clippy::too_many_lines, reason = "one arm for each opcode")]
    fn run(&mut self, opcode: u8) -> Parsed<()> {
        match opcode {
            0x80 => match self.u8()? {
                0..=5 => Ok(()),
                version => Err(format!("is of protocol {version}; 2 to 5 are known")),
            },
            0x95 => self.take(8).map(|_| ()), // FRAME: only says how much to read ahead
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'1' => self.since_mark().map(|_| ()),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'N' => self.push(Object::None),
            0x88 => self.push(Object::Bool(true)),
            0x89 => self.push(Object::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | 0x8b => {
                let number = self.number(opcode)?;
                self.push(number)
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Object::Float(number))
            }
            b'X' | 0x8c | 0x8d | b'U' | b'T' => {
                let text = self.text(opcode)?;
                self.push(text)
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let len = match opcode {
                    b'C' => self.u8()? as usize,
                    b'B' => self.u32()? as usize,
                    _ => self.long_len()?,
                };
                self.take(len)?;
                self.push(Object::Other)
            }
            b')' | b']' | 0x8f => self.push(Object::List(Vec::new())),
            b't' | b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.push(Object::List(items))
            }
            0x85..=0x87 => {
                let first = self.items_from(usize::from(opcode - 0x84))?;
                let items = self.stack.split_off(first);
                self.push(Object::List(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.append(items)
            }
            b'}' => self.push(Object::Dictionary(Vec::new())),
            b'd' => {
                let entries = pairs(&self.since_mark()?)?;
                self.push(Object::Dictionary(entries))
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(vec![(key, value)])
            }
            b'u' => {
                let entries = pairs(&self.since_mark()?)?;
                self.insert(entries)
            }
            b'h' | b'j' => {
                let key = if opcode == b'h' { u32::from(self.u8()?) } else { self.u32()? };
                let id = *self.memo.get(&key).ok_or_else(|| format!("asks for object {key}, which it never kept"))?;
                self.stack.push(id);
                Ok(())
            }
            b'q' | b'r' | 0x94 => {
                let key = match opcode {
                    b'q' => u32::from(self.u8()?),
                    b'r' => self.u32()?,
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
                Ok(())
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_name(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.get(module), self.get(name)) {
                    (&Object::Text(module), &Object::Text(name)) => self.push_name(module, name),
                    _ => Err("asks for a name that is no text".into()),
                }
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let result = self.call(function, arguments, true)?;
                self.stack.push(result);
                Ok(())
            }
            0x92 => {
                let _keywords = self.pop()?;
                let (arguments, class) = (self.pop()?, self.pop()?);
                let result = self.call(class, arguments, true)?;
                self.stack.push(result);
                Ok(())
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                // Dictionaries and tensors of PyTorch also have a state (versions, hooks), without weights.
                if let Object::Instance(attributes) = &mut self.objects[target.0 as usize] {
                    *attributes = Some(state);
                }
                Ok(())
            }
            b'Q' => {
                let mark = self.pop()?;
                let storage = self.storage(mark)?;
                self.push(Object::Storage(storage))
            }
            other => Err(format!("has the instruction {other:#04x}, which PyTorch does not write")),
        }
    }

    /// The result of applying the name `function` to `arguments`.
    fn call(&mut self, function: Id, arguments: Id, may_apply: bool) -> Parsed<Id> {
        let Object::Name(name, role) = *self.get(function) else {
            return Err("applies something that is no name".into());
        };
        let Object::List(arguments) = self.get(arguments) else {
            return Err(format!("calls `{name}` without a list of arguments"));
        };
        let arguments: Vec<Id> = arguments.iter().take(MAX_ARGUMENTS).copied().collect();
        let argument = |n: usize| arguments.get(n).copied().ok_or_else(|| format!("gives `{name}` too few arguments"));
        let made = match role {
            Role::First => return argument(0),
            Role::Apply if may_apply => {
                let (function, arguments) = (argument(0)?, argument(2)?);
                return self.call(function, arguments, false);
            }
            Role::Tensor => {
                let dtype = match self.get(argument(0)?) {
                    Object::Storage(storage) => storage.dtype.unwrap_or(StoredDtype::U8),
                    _ => return Err("has a tensor without a storage".into()),
                };
                self.tensor([argument(0)?, argument(1)?, argument(2)?, argument(3)?], dtype)?
            }
            Role::TypedTensor => {
                let Object::Name(_, Role::Dtype(dtype)) = *self.get(argument(6)?) else {
                    return Err("has a tensor whose type is not known".into());
                };
                self.tensor([argument(0)?, argument(1)?, argument(2)?, argument(3)?], dtype)?
            }
            Role::List => {
                let items = match arguments.first().map(|&id| self.get(id)) {
                    Some(Object::List(items)) => items.clone(),
                    _ => Vec::new(),
                };
                self.spend(items.len())?;
                Object::List(items)
            }
            Role::Dictionary => {
                let entries = match arguments.first().map(|&id| self.get(id)) {
                    Some(Object::Dictionary(entries)) => entries.clone(),
                    Some(Object::List(items)) => {
                        let pair = |&id: &Id| match self.get(id) {
                            Object::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                            _ => Err("makes a dictionary of values that are not pairs".to_string()),
                        };
                        items.iter().map(pair).collect::<Parsed<_>>()?
                    }
                    _ => Vec::new(),
                };
                self.spend(entries.len())?;
                Object::Dictionary(entries)
            }
            Role::Inert => Object::Instance(None),
            Role::Apply | Role::Storage(_) | Role::Dtype(_) => return Err(format!("applies `{name}`, which is no function")),
        };
        if let Object::Tensor(tensor) = &made {
            self.spend(tensor.shape.len() + tensor.strides.len())?;
        }
        self.push(made)?;
        self.pop()
    }

    /// A tensor from (storage, offset, shape, strides).
    fn tensor(&self, [storage, offset, shape, strides]: [Id; 4], dtype: StoredDtype) -> Parsed<Object<'a>> {
        let Object::Storage(storage) = self.get(storage) else { return Err("has a tensor without a storage".into()) };
        let sides = |id: Id| match self.get(id) {
            Object::List(items) if items.len() <= MAX_AXES => items.iter().map(|&id| self.size(id)).collect::<Parsed<Vec<_>>>(),
            _ => Err("has a tensor whose shape is no list of sizes".into()),
        };
        Ok(Object::Tensor(TensorMark {
            storage: storage.clone(),
            dtype,
            offset: self.size(offset)?,
            shape: sides(shape)?,
            strides: sides(strides)?,
        }))
    }

    /// A storage from ("storage", class, key, device, values, part).
    fn storage(&self, mark: Id) -> Parsed<StorageMark<'a>> {
        let wrong = || "points to a storage in a way that is not known".to_string();
        let Object::List(items) = self.get(mark) else { return Err(wrong()) };
        let [kind, class, key, _, len, ..] = items[..] else { return Err(wrong()) };
        let (Object::Text("storage"), &Object::Name(_, Role::Storage(dtype)), &Object::Text(key)) =
            (self.get(kind), self.get(class), self.get(key))
        else {
            return Err(wrong());
        };
        let part = match items.get(5).map(|&id| self.get(id)) {
            None | Some(Object::None | Object::Other) => None,
            Some(Object::List(part)) => {
                let &[_, offset, len] = part.as_slice() else { return Err(wrong()) };
                Some([self.size(offset)?, self.size(len)?])
            }
            Some(_) => return Err(wrong()),
        };
        Ok(StorageMark { dtype, key, len: self.size(len)?, part })
    }

    fn size(&self, id: Id) -> Parsed<usize> {
        match self.get(id) {
            Object::Int(number) => usize::try_from(*number).map_err(|_negative| format!("has {number} where a size should be")),
            _ => Err("has no number where a size should be".into()),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Parsed<()> {
        let target = self.top()?;
        match &mut self.objects[target.0 as usize] {
            Object::List(list) => list.extend(items),
            // A custom class that is also a list.
            Object::Instance(_) => {}
            _ => return Err("appends to what is no list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, entries: Vec<(Id, Id)>) -> Parsed<()> {
        let target = self.top()?;
        match &mut self.objects[target.0 as usize] {
            Object::Dictionary(dictionary) => dictionary.extend(entries),
            Object::Instance(_) => {}
            _ => return Err("puts entries into what is no dictionary".into()),
        }
        Ok(())
    }

    fn push_name(&mut self, module: &'a str, name: &'a str) -> Parsed<()> {
        let role = role(module, name, self.torch_script).ok_or_else(|| {
            format!(
                "asks for `{module}.{name}`, which may be code; nothing was run. \
                 If you trust the file, load it with PyTorch and save only the weights (`model.state_dict()`)"
            )
        })?;
        self.push(Object::Name(name, role))
    }

    fn number(&mut self, opcode: u8) -> Parsed<Object<'a>> {
        Ok(match opcode {
            b'K' => Object::Int(i128::from(self.u8()?)),
            b'M' => Object::Int(i128::from(u16::from_le_bytes(self.array()?))),
            b'J' => Object::Int(i128::from(i32::from_le_bytes(self.array()?))),
            _ => {
                let len = if opcode == 0x8a { self.u8()? as usize } else { self.u32()? as usize };
                let bytes = self.take(len)?;
                if len > 16 {
                    return Ok(Object::Other); // larger than any size
                }
                let negative = bytes.last().is_some_and(|&b| b >= 0x80);
                let mut all = [if negative { 0xff } else { 0 }; 16];
                all[..len].copy_from_slice(bytes);
                Object::Int(i128::from_le_bytes(all))
            }
        })
    }

    fn text(&mut self, opcode: u8) -> Parsed<Object<'a>> {
        let len = match opcode {
            0x8c | b'U' => self.u8()? as usize,
            0x8d => self.long_len()?,
            _ => self.u32()? as usize,
        };
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Object::Text(text)),
            // Text of Python 2 may be any bytes, and so may a test's text in a configuration.
            Err(_) => Ok(Object::Other),
        }
    }

    /// Pops everything above the newest mark, and the mark.
    fn since_mark(&mut self) -> Parsed<Vec<Id>> {
        let mark = self.marks.pop().ok_or("closes what it never opened")?;
        if mark > self.stack.len() {
            return Err("takes more from its stack than lies on it".into());
        }
        Ok(self.stack.split_off(mark))
    }

    /// The position of the first of the topmost `count` objects.
    fn items_from(&self, count: usize) -> Parsed<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(first) if first >= floor => Ok(first),
            _ => Err("takes more from its stack than lies on it".into()),
        }
    }

    fn pop(&mut self) -> Parsed<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn top(&self) -> Parsed<Id> {
        Ok(self.stack[self.items_from(1)?])
    }

    fn push(&mut self, object: Object<'a>) -> Parsed<()> {
        let id = u32::try_from(self.objects.len()).map_err(|_large| "has too many objects".to_string())?;
        self.objects.push(object);
        self.stack.push(Id(id));
        Ok(())
    }

    fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id.0 as usize]
    }

    fn spend(&mut self, work: usize) -> Parsed<()> {
        self.work = self.work.saturating_add(work);
        if self.work > MAX_WORK { Err(format!("takes more than {MAX_WORK} instructions")) } else { Ok(()) }
    }

    fn take(&mut self, len: usize) -> Parsed<&'a [u8]> {
        let taken = self.at.checked_add(len).and_then(|end| self.input.get(self.at..end));
        let taken = taken.ok_or_else(|| "ends in the middle: the file is damaged or cut short".to_string())?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        self.take(N)?.try_into().map_err(|_len| "ends in the middle".to_string())
    }

    fn u8(&mut self) -> Parsed<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Parsed<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn long_len(&mut self) -> Parsed<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_large| "has something absurdly long".to_string())
    }

    fn line(&mut self) -> Parsed<&'a str> {
        let rest = &self.input[self.at..];
        let len = rest.iter().take(1024).position(|&b| b == b'\n').ok_or("has a name without an end")?;
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_bytes| "has a name that is no text".to_string())
    }
}

fn pairs(items: &[Id]) -> Parsed<Vec<(Id, Id)>> {
    if !items.len().is_multiple_of(2) {
        return Err("has a key without a value".into());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(input: &[u8]) -> Parsed<Object<'_>> {
        let pickle = parse(input, false)?;
        Ok(pickle.get(pickle.root).clone())
    }

    #[test]
    fn numbers_of_all_lengths() -> Parsed<()> {
        assert_eq!(root(b"\x80\x02K\x07.")?, Object::Int(7));
        assert_eq!(root(b"J\xff\xff\xff\xff.")?, Object::Int(-1));
        assert_eq!(root(b"\x8a\x02\x00\x80.")?, Object::Int(-32768));
        assert_eq!(root(b"\x8a\x00.")?, Object::Int(0));
        assert_eq!(root(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")?, Object::Int(0x1950_a86a_20f9_469c_fc6c));
        assert_eq!(root(&[&b"\x8a\x11"[..], &[0xff; 17], b"."].concat())?, Object::Other);
        Ok(())
    }

    #[test]
    fn misuse_of_the_stack_is_an_error() {
        for input in [
            &b"."[..],
            b"0.",
            b"(0.",
            b"N(0.",
            b"t.",
            b"N(\x85.",
            b"]K\x01K\x02u.",
            b"K\x01(K\x02K\x03u.",
            b"}(K\x01u.",
            b"K\x01K\x02a.",
            b"K\x01K\x02R.",
            b"h\x00.",
            b"NNQ.",
            b"X\xff\xff\xff\xff.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
            b"cos\nsystem\n.",
            b"cos",
            b"i.",
            b"\x80\x06.",
            b"ccollections\nOrderedDict\n(]K\x01atR.",
        ] {
            assert!(root(input).is_err(), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn deep_nesting_and_cycles_do_no_harm() -> Parsed<()> {
        let mut deep = vec![b']'; 1_000_000];
        deep.extend(vec![b'a'; 999_999]);
        deep.push(b'.');
        assert!(matches!(root(&deep)?, Object::List(items) if items.len() == 1));
        // A list that contains itself.
        assert!(matches!(root(b"]q\x00h\x00a.")?, Object::List(_)));
        Ok(())
    }

    #[test]
    fn endless_work_is_refused() {
        let message = root(&vec![b'N'; MAX_WORK + 2]).unwrap_err();
        assert!(message.contains("instructions"), "{message}");
        // Copying one long list many times costs as much of the budget as writing it would.
        let mut input = b"ccollections\nOrderedDict\nq\x00}(".to_vec();
        input.extend(vec![b'N'; 100_000]);
        input.extend(b"u\x85q\x01");
        for _ in 0..1000 {
            input.extend(b"h\x00h\x01R");
        }
        input.push(b'.');
        assert!(root(&input).unwrap_err().contains("instructions"));
    }
}
