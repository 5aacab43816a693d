//! The ports of `serve`.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use futures::FutureExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::AppError;
use crate::listener::{self, Bounds};

/// Maximum number of connections that wait until the program accepts them. If there are more, the
/// operating system drops their first packets. This costs each caller a second.
const BACKLOG: u32 = 512;

/// The open ports. Connections wait in them until [`serve`](Self::serve) runs.
#[derive(Debug)]
pub struct Listeners {
    agent: Option<TcpListener>,
    admin: TcpListener,
}

impl Listeners {
    /// Opens the port for the agent, if there is an agent, and the port for probes. Logs their
    /// addresses. With port 0, the operating system chooses a port. Needs a tokio runtime.
    ///
    /// Call this before anything slow: the agent gives up on a port that is closed for 15 s.
    pub fn bind(agent: Option<SocketAddr>, admin: SocketAddr) -> Result<Self, AppError> {
        let open = |address| listen(address).map_err(|source| AppError::Listen { address, source });
        let this = Self {
            agent: agent.map(open).transpose()?,
            admin: open(admin)?,
        };
        let address = this.agent.as_ref().map(TcpListener::local_addr);
        let address = address.transpose()?.map(tracing::field::display);
        let admin_address = this.admin.local_addr()?;
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(address, %admin_address, version, "listening");
        Ok(this)
    }

    /// Serves the ports until `shutdown`, and then until the last response is sent.
    pub(super) fn serve(
        self,
        agent: Router,
        admin: Router,
        shutdown: &CancellationToken,
    ) -> JoinHandle<io::Result<()>> {
        let bounds = Bounds::of_agent();
        let shutdown_of_agent = shutdown.clone();
        let agent = async move {
            match self.agent {
                Some(port) => listener::serve(port, agent, bounds, shutdown_of_agent).await,
                None => shutdown_of_agent.cancelled().await,
            }
        };
        let admin = serve_on_own_thread(self.admin, admin, shutdown.clone());
        tokio::spawn(async move { tokio::try_join!(agent.map(Ok), admin).map(drop) })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A new process gets the port while connections of the old process are closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the admin port on a thread of its own: the probes are answered while the other threads
/// are busy.
async fn serve_on_own_thread(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (end, ended) = oneshot::channel();
    let serve = move || {
        let served = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            listener::serve(listener, router, Bounds::of_admin(), shutdown).await;
            Ok(())
        });
        let _ = end.send(served);
    };
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(serve)?;
    ended
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread of the admin port panicked")))
}
