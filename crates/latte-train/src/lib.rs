//! Trains latte models on video files.
