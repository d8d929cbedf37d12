//! The names that a pickle of PyTorch may contain, and the meaning of each here. Nothing is ever imported or called.

use super::super::stored::StoredDtype;

/// The meaning of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A tensor of (storage, offset, shape, strides, …), with the dtype of the storage.
    Tensor,
    /// The same with its own dtype after six other values.
    TypedTensor,
    /// Returns its first argument.
    First,
    /// Applies its first argument, a function, to its third, the arguments.
    Apply,
    /// A dictionary, from a list of pairs if there is one.
    Dictionary,
    /// A list, from another list if there is one.
    List,
    /// A class of storages; without a dtype its values are bytes.
    Storage(Option<StoredDtype>),
    /// The name of a dtype.
    Dtype(StoredDtype),
    /// An object without weights, which is skipped.
    Inert,
}

/// The role of `module.name`, if a file may contain it. A TorchScript archive may also contain the module's own classes.
pub(super) fn role(module: &str, name: &str, torch_script: bool) -> Option<Role> {
    if torch_script && (module == "__torch__" || module.starts_with("__torch__.")) {
        return Some(Role::Inert);
    }
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Role::Tensor,
        ("torch._utils", "_rebuild_tensor_v3") => Role::TypedTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Role::First,
        ("torch._tensor", "_rebuild_from_type_v2") | ("torch.tensor", "_rebuild_from_type") => Role::Apply,
        (
            "torch.jit._pickle",
            "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist" | "restore_type_tag",
        ) => Role::First,
        ("torch.nn.parameter", "Parameter") => Role::First,
        ("torch", "Size") => Role::List,
        ("torch", "device" | "Tensor") => Role::Inert,
        ("torch.storage" | "torch", "UntypedStorage") => Role::Storage(None),
        ("torch" | "torch.cuda", class) if class.ends_with("Storage") => Role::Storage(Some(StoredDtype::from_storage(class)?)),
        ("torch", dtype) => Role::Dtype(StoredDtype::from_torch(dtype)?),
        ("collections", "OrderedDict" | "Counter" | "defaultdict") => Role::Dictionary,
        ("builtins" | "__builtin__", "dict") => Role::Dictionary,
        ("builtins" | "__builtin__", "list" | "tuple" | "set" | "frozenset") => Role::List,
        (
            "builtins" | "__builtin__",
            "int" | "long" | "float" | "bool" | "str" | "complex" | "slice" | "bytearray" | "object",
        ) => Role::Inert,
        ("_codecs", "encode") => Role::Inert,
        ("copyreg" | "copy_reg", "_reconstructor") => Role::Inert,
        ("argparse", "Namespace") | ("types", "SimpleNamespace") => Role::Inert,
        ("datetime", "datetime" | "timedelta") | ("pathlib", "Path" | "PosixPath" | "WindowsPath" | "PurePosixPath") => {
            Role::Inert
        }
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct") => Role::Inert,
        ("numpy", "dtype" | "ndarray") => Role::Inert,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_no_role() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("subprocess", "Popen"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch", "NoSuchStorage"),
            ("__torch__", "Anything"),
        ] {
            assert_eq!(role(module, name, false), None, "{module}.{name}");
        }
        assert_eq!(role("__torch__.a", "B", true), Some(Role::Inert));
        assert_eq!(role("__torch__x", "B", true), None);
        assert_eq!(role("torch", "BFloat16Storage", false), Some(Role::Storage(Some(StoredDtype::Bf16))));
        assert_eq!(role("torch", "float8_e5m2", false), Some(Role::Dtype(StoredDtype::F8E5m2)));
    }
}
