pub(crate) fn locations() {}
