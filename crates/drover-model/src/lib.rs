//! Ids, units, configuration and wire types of drover: pure data
