//! Writes files in PyTorch's formats for tests: TorchScript modules, and pickles from before 1.6.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor of f32: name, shape, values.
pub(super) type Named = (String, Vec<usize>, Vec<f32>);

/// A pickle under construction.
#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.0.push(b'J');
        self.0.extend(i32::try_from(number).unwrap().to_le_bytes());
    }

    /// A tensor in the storage `key`; `part` adds the field of old files for views of storages.
    fn tensor(&mut self, key: usize, shape: &[usize], part: bool) {
        self.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.0.extend(b"ctorch\nFloatStorage\n");
        self.text(&key.to_string());
        self.text("cpu");
        self.number(shape.iter().product());
        self.0.extend(if part { b"NtQ".as_slice() } else { b"tQ" });
        self.number(0);
        for list in [shape.to_vec(), (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()] {
            self.0.push(b'(');
            for number in list {
                self.number(number);
            }
            self.0.push(b't');
        }
        self.0.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A TorchScript module whose submodules nest like the dots in the names.
pub(super) fn torch_script(tensors: &[Named]) -> Vec<u8> {
    #[derive(Default)]
    struct Module {
        parts: BTreeMap<String, Self>,
        tensors: BTreeMap<String, usize>,
    }
    fn write(module: &Module, tensors: &[Named], pickle: &mut Pickle) {
        pickle.0.extend(b"c__torch__.src.net\nModule\n)\x81}(");
        pickle.text("training");
        pickle.0.push(b'\x89');
        for (name, &key) in &module.tensors {
            pickle.text(name);
            pickle.tensor(key, &tensors[key].1, false);
        }
        for (name, part) in &module.parts {
            pickle.text(name);
            write(part, tensors, pickle);
        }
        pickle.0.extend(b"ub");
    }
    let mut root = Module::default();
    for (key, (name, ..)) in tensors.iter().enumerate() {
        let mut module = &mut root;
        let mut parts: Vec<&str> = name.split('.').collect();
        let last = parts.pop().unwrap();
        for part in parts {
            module = module.parts.entry(part.into()).or_default();
        }
        module.tensors.insert(last.into(), key);
    }
    let mut pickle = Pickle(b"\x80\x02".to_vec());
    write(&root, tensors, &mut pickle);
    pickle.0.push(b'.');
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut entry = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("net/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    entry("data.pkl", &pickle.0);
    entry("code/__torch__/src/net.py", b"class Module(Module):\n  pass\n");
    entry("constants.pkl", b"\x80\x02).");
    for (key, (.., values)) in tensors.iter().enumerate() {
        entry(&format!("data/{key}"), &bytes(values));
    }
    entry("version", b"3\n");
    zip.finish().unwrap().into_inner()
}

/// A state dict in the format from before 1.6.
pub(super) fn legacy(tensors: &[Named]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}(".to_vec();
    let mut machine = Pickle::default();
    machine.text("little_endian");
    file.extend(machine.0);
    file.extend(b"\x88u.");
    let mut pickle = Pickle(b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec());
    for (key, (name, shape, _)) in tensors.iter().enumerate() {
        pickle.text(name);
        pickle.tensor(key, shape, true);
    }
    pickle.0.extend(b"u.\x80\x02](");
    (0..tensors.len()).for_each(|key| pickle.text(&key.to_string()));
    pickle.0.extend(b"e.");
    file.extend(pickle.0);
    for (.., values) in tensors {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(bytes(values));
    }
    file
}
