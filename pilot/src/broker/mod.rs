//! The client side of the identity-switch helper.
