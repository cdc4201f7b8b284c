//! The pool.

mod ledger;
