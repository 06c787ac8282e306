//! Connections of pilots.

use cedar::net::Incoming;

use super::registry::Transfers;

impl Transfers {
    /// Serves one `FILETRANS_UPLOAD` or `FILETRANS_DOWNLOAD`, to its end. Errors are logged and told to the ticket.
    pub async fn serve(&self, incoming: Incoming) {
        let _ = incoming;
        todo!()
    }
}
