//! Guests that do what a guest should not: one program each in `src/bin`.
