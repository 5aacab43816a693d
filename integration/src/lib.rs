//! Tests against real servers, and the doubles of what cannot be started here.
