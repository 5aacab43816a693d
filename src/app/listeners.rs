//! The ports of `serve`.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::AppError;

/// The open ports. Connections wait in them until [`serve`](Self::serve) runs.
#[derive(Debug)]
pub struct Listeners {
    agent: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    /// Opens the port for the agent and the port for probes, and logs their addresses. With port
    /// 0, the operating system chooses a port.
    ///
    /// Call this before anything slow: the agent gives up on a port that is closed for 15 s.
    pub async fn bind(agent: SocketAddr, admin: SocketAddr) -> Result<Self, AppError> {
        let this = Self {
            agent: bind(agent).await?,
            admin: bind(admin).await?,
        };
        let address = this.agent.local_addr()?;
        let admin_address = this.admin.local_addr()?;
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(%address, %admin_address, version, "listening");
        Ok(this)
    }

    /// Serves both ports until `shutdown`, and then until the last response is sent.
    pub(super) fn serve(
        self,
        agent: Router,
        admin: Router,
        shutdown: &CancellationToken,
    ) -> JoinHandle<io::Result<()>> {
        let agent = serve(self.agent, agent, shutdown.clone());
        let admin = serve(self.admin, admin, shutdown.clone());
        tokio::spawn(async move { tokio::try_join!(agent, admin).map(drop) })
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| AppError::Listen { address, source })
}

async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Replies are small and the agent waits for them, so they are sent without delay.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}
