use super::super::{
    problem::Place,
    reader::{At, Kind, Reader, ScalarKind},
    shape::Shape,
    tree::NodeId,
};
use std::{collections::HashMap, hash::Hash, marker::PhantomData};

/// A list of at least `MIN`. Its value has the good items.
pub(in crate::config) struct ListOf<K, const MIN: usize>(PhantomData<K>);

impl<K: Kind, const MIN: usize> Kind for ListOf<K, MIN> {
    type Value = Vec<At<K::Value>>;
    const SHAPE: Shape = Shape::List { of: &K::SHAPE, min: MIN };

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value> {
        // The API may take away what a file must have.
        let least = if reader.surroundings.own { 0 } else { MIN };
        let items = reader.items(node, &Self::SHAPE, least)?;
        Some(
            items
                .iter()
                .filter_map(|&node| K::read(reader, node).map(|value| At { value, node }))
                .collect(),
        )
    }
}

/// A list of at least `MIN` in which nothing is twice.
pub(in crate::config) struct SetOf<K, const MIN: usize>(PhantomData<K>);

impl<K: Kind<Value: Eq + Hash + Clone>, const MIN: usize> Kind for SetOf<K, MIN> {
    type Value = Vec<K::Value>;
    const SHAPE: Shape = Shape::List { of: &K::SHAPE, min: MIN };

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value> {
        let mut firsts = HashMap::<K::Value, NodeId>::new();
        let mut kept = Vec::new();
        for At { value, node } in ListOf::<K, MIN>::read(reader, node)? {
            if let Some(first) = firsts.insert(value.clone(), node) {
                let fix = format!("keep one; the first is on line {}", reader.line(first));
                reader.problem(node, "this is in the list already", fix);
            }
            kept.push(value);
        }
        Some(kept)
    }
}

/// A mapping from names to values, at least `MIN`. Its value has the members with good names.
pub(in crate::config) struct MapOf<N, K, const MIN: usize>(PhantomData<(N, K)>);

pub(in crate::config) struct Named<N, V> {
    pub(in crate::config) name: N,
    /// `None`: it is wrong, and that has been reported.
    pub(in crate::config) value: Option<At<V>>,
}

impl<N: ScalarKind, K: Kind, const MIN: usize> MapOf<N, K, MIN> {
    const NAMES: &'static str = match N::FORM {
        Shape::Text { what, .. } => what,
        _ => "a name",
    };
}

impl<N: ScalarKind<Value: Eq + Hash + Clone>, K: Kind, const MIN: usize> Kind for MapOf<N, K, MIN> {
    type Value = Vec<Named<N::Value, K::Value>>;
    const SHAPE: Shape = Shape::Map { names: Self::NAMES, of: &K::SHAPE, min: MIN };

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value> {
        let members = reader.members(node, &Self::SHAPE, MIN)?;
        let mut firsts = HashMap::<N::Value, Place>::new();
        let mut all = Vec::with_capacity(members.len());
        for (key, member) in members {
            let name = reader.name::<N>(node, key, member.key);
            let value = K::read(reader, member.value).map(|value| At { value, node: member.value });
            let Some(name) = name else { continue };
            // Two spellings of one name; equal keys were reported when the tree was read.
            if let Some(first) = firsts.insert(name.clone(), member.key) {
                let fix = format!("keep one; the first is on line {}", first.line);
                reader.key_problem(member.key, node, key, "this name is given twice", fix);
            }
            all.push(Named { name, value });
        }
        Some(all)
    }
}
