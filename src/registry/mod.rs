//! The registry: a folder of files where roles meet.
//!
//! One writer per file, a rename per change, no locks: that is all that a shared file system promises. Layout:
//! `<service>/<instance_id>.json` is a record, `<service>.json` the newest ready server again (for people and scripts of
//! the original layout; never read by us), `scrape.key` the bearer of all agents of one user, `.keys/` the keys of
//! instances.
//!
//! [`record`] is the format, [`store`] the folder with its permissions and keys, [`publication`] the writer of one
//! record, [`lease`] who is alive, [`lookup`] who is meant.

pub mod lease;
pub mod lookup;
pub mod publication;
pub mod record;
pub mod store;

pub use lease::{Liveness, Seen, Watch};
pub use lookup::{Scope, Wanted};
pub use publication::Publication;
pub use record::{Auth, Endpoints, Kind, Proof, Record, State};
pub use store::Store;
