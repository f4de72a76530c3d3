//! Operations: one step that a person asks for, and its effect on a [`Table`].
