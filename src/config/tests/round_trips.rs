//! What holds of any spec.

use super::generated::spec;
use crate::config::tests::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_spec_comes_back_from_its_document(spec in spec().boxed()) {
        assert_comes_back(&spec);
    }

    #[test]
    fn changes_are_there_if_and_only_if_specs_differ(old in spec().boxed(), new in spec().boxed()) {
        prop_assert_eq!(changes(&old, &new).is_empty(), old == new);
        for change in changes(&old, &new) {
            prop_assert_ne!(change.from, change.to, "{}", change.path);
        }
    }
}
