"""What can be timed of each model."""

MODES = {"T2V": ["forward"], "VAE": ["decode", "encode"], "VAE-T": ["decode"]}
CLASS_MODEL_MODES = ["forward", "train"]


def modes_of(model):
    return MODES.get(model, CLASS_MODEL_MODES)


def is_class_model(model):
    return model not in MODES
