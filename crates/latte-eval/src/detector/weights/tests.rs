//! The same weights through every container and every set of names.
