//! Guests for tests: one program each in `src/bin`. Most of them do what a guest should not.
