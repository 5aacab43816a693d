//! Rules for the host names of endpoints, from Argo's S3 client (minio-go).

/// An endpoint of Amazon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amazon<'a> {
    /// Serves buckets of every region.
    Global,
    /// Serves buckets of one region.
    Region(&'a str),
}

/// The kind of endpoint of Amazon that a host name belongs to; `None` for other servers.
pub(super) fn amazon(host: &str) -> Option<Amazon<'_>> {
    if matches!(host, "s3.amazonaws.com" | "s3-external-1.amazonaws.com") {
        return Some(Amazon::Global);
    }
    let middle = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let region = [
        "s3.dualstack.",
        "s3-fips.dualstack.",
        "s3-fips.",
        "s3.",
        "s3-",
    ]
    .iter()
    .find_map(|start| middle.strip_prefix(start))?;
    let is_region = region
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (is_region && region.contains('-')).then_some(Amazon::Region(region))
}

/// Whether the name of the bucket is part of the host name by default.
pub(super) fn is_virtual_hosted(host: &str, bucket: &str, secure: bool) -> bool {
    // Wildcard certificates cover one level of names, so a bucket with a dot fails TLS.
    let in_certificate = !(secure && bucket.contains('.'));
    in_certificate
        && (amazon(host).is_some()
            || host == "storage.googleapis.com"
            || host.ends_with(".aliyuncs.com"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_amazon_are_recognized() {
        for (host, region) in [
            ("s3.amazonaws.com", Some(Amazon::Global)),
            (
                "s3.eu-central-1.amazonaws.com",
                Some(Amazon::Region("eu-central-1")),
            ),
            (
                "s3-us-west-2.amazonaws.com",
                Some(Amazon::Region("us-west-2")),
            ),
            (
                "s3.dualstack.us-east-1.amazonaws.com",
                Some(Amazon::Region("us-east-1")),
            ),
            (
                "s3.cn-north-1.amazonaws.com.cn",
                Some(Amazon::Region("cn-north-1")),
            ),
            ("s3.example.com", None),
            ("minio.argo.svc", None),
            ("s3.evil.com.amazonaws.com.example.com", None),
            ("s3.a.b-c.amazonaws.com", None),
        ] {
            assert_eq!(amazon(host), region, "{host}");
        }
    }

    #[test]
    fn buckets_are_in_the_host_name_if_the_server_supports_it() {
        assert!(is_virtual_hosted("s3.amazonaws.com", "b", true));
        assert!(
            !is_virtual_hosted("s3.amazonaws.com", "b.c", true)
                && is_virtual_hosted("s3.amazonaws.com", "b.c", false)
        );
        assert!(is_virtual_hosted("storage.googleapis.com", "b", true));
        assert!(is_virtual_hosted("oss-cn-hangzhou.aliyuncs.com", "b", true));
        assert!(!is_virtual_hosted("minio:9000", "b", false));
    }
}
