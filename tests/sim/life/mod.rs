//! The long life of an account: days and months pass on several sidecars, and the law's numbers come out exactly.

mod adapting;
mod months;
mod reserving;
mod town;
