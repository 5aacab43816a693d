//! The HTTP client of the AWS SDK. It sends requests through the client of the host.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};

use crate::host;
use crate::{Error, ErrorKind};

/// Sends the requests that the SDK has signed.
#[derive(Clone, Debug)]
pub(super) struct SdkHttpClient(pub(super) Arc<dyn host::HttpClient>);

#[derive(Debug)]
struct Connector {
    http: Arc<dyn host::HttpClient>,
    /// Longest wait for the head of a response.
    timeout: Option<Duration>,
}

impl HttpClient for SdkHttpClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let timeout = settings
            .read_timeout()
            .map(|read| read + settings.connect_timeout().unwrap_or_default());
        SharedHttpConnector::new(Connector {
            http: Arc::clone(&self.0),
            timeout,
        })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = Arc::clone(&self.http);
        let timeout = self.timeout;
        HttpConnectorFuture::new(async move {
            let request = into_request(request)?;
            let answer = match timeout {
                Some(limit) => tokio::time::timeout(limit, http.execute(request))
                    .await
                    .map_err(|late| ConnectorError::timeout(late.into()))?,
                None => http.execute(request).await,
            };
            let answer: http::Response<reqwest::Body> = answer.map_err(connector_error)?.into();
            let answer = answer.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(answer)
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

fn into_request(request: HttpRequest) -> Result<reqwest::Request, ConnectorError> {
    let request = request
        .try_into_http1x()
        .map_err(|error| ConnectorError::user(error.into()))?;
    let signed = request.uri().path().to_owned();
    let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))
        .map_err(|error| ConnectorError::user(error.into()))?;
    // URLs resolve the segments `.` and `..`, so the request would name another object than its
    // signature.
    if request.url().path() != signed {
        let message = "a key must not have a segment `.` or `..`";
        let error = Error::new(ErrorKind::InvalidConfig, message);
        return Err(ConnectorError::user(error.into()));
    }
    Ok(request)
}

fn connector_error(error: Error) -> ConnectorError {
    match error.kind() {
        ErrorKind::Unavailable => ConnectorError::io(error.into()),
        _ => ConnectorError::user(error.into()),
    }
}
