//! The response headers that control a cache (RFC 9111).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{AGE, CACHE_CONTROL, ETAG, HeaderMap, HeaderName, LAST_MODIFIED};
use serde::{Deserialize, Serialize};

/// The longest time for which a stored response is used without asking the server.
const LONGEST_FRESH: Duration = Duration::from_hours(1);

/// The freshness of a response (RFC 9111) and its validators for a conditional request (RFC 9110,
/// 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Caching {
    /// The header `ETag`.
    pub etag: Option<String>,
    /// The header `Last-Modified`.
    pub last_modified: Option<String>,
    /// The end of the freshness, in seconds since 1970: from `Cache-Control: max-age`.
    pub fresh_until: Option<u64>,
    /// Whether the response must not be stored on disk: `Cache-Control: no-store`.
    pub no_store: bool,
}

impl Caching {
    /// Reads the headers of a response that arrives `now`.
    pub(crate) fn of(headers: &HeaderMap, now: SystemTime) -> Self {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
        let values = headers
            .get_all(CACHE_CONTROL)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let directives: Vec<String> = values
            .flat_map(|value| value.split(','))
            .map(|directive| directive.trim().to_ascii_lowercase())
            .collect();
        let has = |name: &str| directives.iter().any(|directive| directive == name);
        let max_age = directives
            .iter()
            .find_map(|directive| directive.strip_prefix("max-age="));
        let max_age = max_age
            .and_then(|seconds| seconds.trim_matches('"').parse().ok())
            .map(Duration::from_secs);
        // `Age` is the time that the response spent in other caches. A malformed `Age` ends the
        // freshness.
        let age = text(AGE).map_or(0, |seconds| seconds.trim().parse().unwrap_or(u64::MAX));
        let age = Duration::from_secs(age);
        let fresh = max_age
            .filter(|_| !has("no-cache"))
            .map(|max_age| max_age.saturating_sub(age).min(LONGEST_FRESH));
        let fresh_until = fresh
            .filter(|fresh| !fresh.is_zero())
            .map(|fresh| seconds(now + fresh));
        Self {
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
            fresh_until,
            no_store: has("no-store"),
        }
    }

    /// The headers of a 304, with the validators of the stored response where the 304 has none (RFC
    /// 9111, 3.2).
    #[must_use]
    pub fn updating(self, older: &Self) -> Self {
        let etag = self.etag.or_else(|| older.etag.clone());
        let last_modified = self.last_modified.or_else(|| older.last_modified.clone());
        Self {
            etag,
            last_modified,
            ..self
        }
    }

    /// The validators without freshness and `no-store`, which are valid for the receiving client
    /// only.
    #[must_use]
    pub fn validators_only(&self) -> Self {
        Self {
            fresh_until: None,
            no_store: false,
            ..self.clone()
        }
    }

    /// Whether a conditional request is possible.
    pub fn has_validators(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// Whether the stored response may be used `now` without asking the server.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        // A clock that was set back must not make the response fresh for ever.
        let latest = seconds(now + LONGEST_FRESH);
        self.fresh_until
            .is_some_and(|until| (seconds(now)..=latest).contains(&until))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_max_age_minus_age_and_at_most_an_hour() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let fresh_for = |headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            let caching = Caching::of(&headers.collect(), now);
            caching.fresh_until.map(|until| until - 1_000_000)
        };
        assert_eq!(fresh_for(&[]), None);
        assert_eq!(
            fresh_for(&[("cache-control", "public, Max-Age=60")]),
            Some(60)
        );
        assert_eq!(
            fresh_for(&[("cache-control", "max-age=60"), ("age", "50")]),
            Some(10)
        );
        assert_eq!(
            fresh_for(&[("cache-control", "max-age=60"), ("age", "60")]),
            None
        );
        assert_eq!(
            fresh_for(&[
                ("cache-control", "max-age=60"),
                ("age", "99999999999999999999")
            ]),
            None
        );
        assert_eq!(
            fresh_for(&[("cache-control", "max-age=31536000, immutable")]),
            Some(3600)
        );
        assert_eq!(
            fresh_for(&[("cache-control", "max-age=60, no-cache")]),
            None
        );
        assert_eq!(fresh_for(&[("cache-control", "max-age=-1")]), None);
        assert_eq!(
            fresh_for(&[("cache-control", "max-age=18446744073709551615")]),
            Some(3600)
        );
    }

    #[test]
    fn freshness_ends() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let caching = Caching {
            fresh_until: Some(1_000_060),
            ..Caching::default()
        };
        assert!(caching.is_fresh(now) && caching.is_fresh(now + Duration::from_mins(1)));
        assert!(!caching.is_fresh(now + Duration::from_secs(61)));
        assert!(
            !caching.is_fresh(now - Duration::from_hours(2)),
            "the clock was set back"
        );
        assert!(!Caching::default().is_fresh(now));
    }
}
