//! The names of types, as the driver says them, as texts that a column can keep without owning them.

/// Every name that the driver has, the usual ones first.
const NAMES: [&str; 38] = [
    "VARCHAR",
    "BIGINT",
    "BIGINT UNSIGNED",
    "DECIMAL",
    "INT",
    "INT UNSIGNED",
    "DOUBLE",
    "CHAR",
    "TEXT",
    "DATETIME",
    "TIMESTAMP",
    "BOOLEAN",
    "TINYINT",
    "TINYINT UNSIGNED",
    "SMALLINT",
    "SMALLINT UNSIGNED",
    "MEDIUMINT",
    "MEDIUMINT UNSIGNED",
    "FLOAT",
    "NULL",
    "DATE",
    "TIME",
    "YEAR",
    "BIT",
    "ENUM",
    "SET",
    "JSON",
    "GEOMETRY",
    "BINARY",
    "VARBINARY",
    "TINYTEXT",
    "MEDIUMTEXT",
    "LONGTEXT",
    "TINYBLOB",
    "BLOB",
    "MEDIUMBLOB",
    "LONGBLOB",
    "VECTOR",
];

/// The name of a type. One that the driver learns one day is `?` until it is listed here.
pub(super) fn name(name: &str) -> &'static str {
    NAMES.into_iter().find(|known| *known == name).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_and_an_unknown_one_is_said_to_be_unknown() {
        for known in NAMES {
            assert_eq!(name(known), known);
        }
        assert_eq!(name("INTERVAL"), "?");
    }
}
