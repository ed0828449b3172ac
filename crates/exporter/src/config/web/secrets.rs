//! What of a web file is never shown: keys, hashes, and whatever looks like one.

use super::super::{
    report::Place,
    yaml::{Node, Yaml},
};

/// Masks keys and hashes, and whatever looks like one.
pub(super) fn mask(node: &Node, is_secret: bool, base: usize, masked: &mut Vec<Place>) {
    match &node.value {
        Yaml::Null => {}
        Yaml::Text(text) => {
            if is_secret || text.contains("PRIVATE KEY") || text.starts_with("$2") {
                masked.push(node.at.start - base..node.at.end - base);
            }
        }
        Yaml::List(nodes) => nodes.iter().for_each(|node| mask(node, is_secret, base, masked)),
        Yaml::Map(pairs) => {
            for (key, value) in pairs {
                let names =
                    matches!(&key.value, Yaml::Text(key) if key == "key" || key == "basic_auth_users");
                mask(value, is_secret || names, base, masked);
            }
        }
    }
}

/// In a text that is no YAML: whatever follows a key that may have a secret, PEM, and hashes.
pub(super) fn secret_lines(text: &str) -> Vec<Place> {
    let (mut masked, mut start) = (Vec::new(), 0);
    let (mut in_pem, mut in_users) = (false, false);
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let is_top = !line.starts_with([' ', '\t', '#', '\n', '\r']);
        let after_colon = line.find(':').map_or(start, |colon| start + colon + 1).min(end);
        if is_top {
            in_users = line.starts_with("basic_auth");
        }
        in_pem |= line.contains("-----BEGIN");
        if in_pem {
            masked.push(start..end);
        } else if line.trim_start().starts_with("key:") || in_users {
            masked.push(after_colon..end);
        } else if let Some(hash) = line.find("$2") {
            masked.push(start + hash..end);
        }
        in_pem &= !line.contains("-----END");
        start += line.len();
    }
    masked
}
