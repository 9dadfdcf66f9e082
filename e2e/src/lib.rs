//! Whole-system tests of WZP.
