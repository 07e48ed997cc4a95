//! What a resource may say of its restarts, and what becomes of the rest.
