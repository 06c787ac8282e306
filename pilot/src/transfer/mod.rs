//! File transfer with the shadow.
