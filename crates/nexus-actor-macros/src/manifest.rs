//! What a manifest may look like, checked where the user wrote it.

use syn::LitStr;

/// At most this many bytes: the limit of a manifest on the wire.
const BYTES_MAX: usize = 256;

/// Checks the literal and points at it when it is not a manifest.
pub(crate) fn check(literal: &LitStr) -> syn::Result<()> {
    fault(&literal.value()).map_or(Ok(()), |why| {
        Err(syn::Error::new(
            literal.span(),
            format!("{why}; write a name and a version, like \"shop.counter@1\""),
        ))
    })
}

/// A manifest to suggest for a type of this name.
pub(crate) fn suggest(type_name: &str) -> String {
    let mut out = String::from("my_app.");
    for (at, c) in type_name.trim_start_matches("r#").chars().filter(char::is_ascii).enumerate() {
        if c.is_ascii_uppercase() && at > 0 && !out.ends_with('_') {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out + "@1"
}

fn fault(manifest: &str) -> Option<String> {
    if manifest.is_empty() {
        return Some("the manifest is empty".into());
    }
    if manifest.len() > BYTES_MAX {
        return Some(format!(
            "the manifest has {} bytes, the wire carries at most {BYTES_MAX}",
            manifest.len()
        ));
    }
    if let Some(c) = manifest.chars().find(|c| !c.is_ascii_graphic()) {
        return Some(format!("a manifest is printable ASCII without spaces, this one has {c:?}"));
    }
    let Some((name, version)) = manifest.split_once('@') else {
        return Some("the manifest has no version".into());
    };
    if name.is_empty() {
        return Some("the manifest has no name before its `@`".into());
    }
    let is_number = version.parse::<u32>().is_ok_and(|number| number.to_string() == version);
    (!is_number).then(|| format!("the version after `@` is a number, not {version:?}"))
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, fault, suggest};

    #[test]
    fn manifests() {
        let longest = format!("{}@1", "a".repeat(BYTES_MAX - 2));
        let below = format!("{}@1", "a".repeat(BYTES_MAX - 3));
        let above = format!("{}@1", "a".repeat(BYTES_MAX - 1));
        for (given, expected) in [
            ("shop.counter@1", None),
            ("x@0", None),
            ("a/b:c-d_e@4294967295", None),
            (below.as_str(), None),
            (longest.as_str(), None),
            (above.as_str(), Some("257 bytes")),
            ("", Some("empty")),
            ("shop.counter", Some("no version")),
            ("@1", Some("no name")),
            ("shop.counter@", Some("is a number")),
            ("shop.counter@01", Some("is a number")),
            ("shop.counter@+1", Some("is a number")),
            ("shop.counter@1.2", Some("is a number")),
            ("shop@1@2", Some("is a number")),
            ("shop.counter@4294967296", Some("is a number")),
            ("shop counter@1", Some("' '")),
            ("shop\tcounter@1", Some("'\\t'")),
            ("läden@1", Some("'ä'")),
        ] {
            let found = fault(given);
            match expected {
                None => assert_eq!(found, None, "{given}"),
                Some(words) => {
                    assert!(found.as_deref().is_some_and(|f| f.contains(words)), "{given}: {found:?}")
                }
            }
        }
    }

    #[test]
    fn suggestions_are_manifests() {
        for (name, expected) in
            [("Counter", "my_app.counter@1"), ("AddItem", "my_app.add_item@1"), ("r#Type", "my_app.type@1")]
        {
            assert_eq!(suggest(name), expected);
            assert_eq!(fault(expected), None);
        }
    }
}
