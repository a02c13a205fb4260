//! Two ordered collections walked side by side.

use std::cmp::Ordering;

/// Each of `keys` with its value among `pairs`; both must ascend. What belongs to a service is kept by region in many
/// maps, and a look-up in each of them for each region is most of the time that it takes to plan thousands of services.
pub fn beside<'a, K: Ord + 'a, V>(
    keys: impl Iterator<Item = &'a K>,
    pairs: impl IntoIterator<Item = (&'a K, V)>,
) -> impl Iterator<Item = (&'a K, Option<V>)> {
    let mut pairs = pairs.into_iter().peekable();
    keys.map(move |key| {
        loop {
            match pairs.peek().map(|(other, _)| (*other).cmp(key)) {
                Some(Ordering::Less) => drop(pairs.next()),
                Some(Ordering::Equal) => return (key, pairs.next().map(|(_, value)| value)),
                Some(Ordering::Greater) | None => return (key, None),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::beside;
    use std::collections::BTreeMap;

    #[test]
    fn each_key_gets_what_a_look_up_would_give_it() {
        let maps: [&[u8]; 5] = [&[], &[1, 2, 3], &[0, 2, 9], &[2], &[0, 1, 2, 3, 4]];
        for values in maps {
            let map: BTreeMap<u8, u8> = values.iter().map(|v| (*v, v * 10)).collect();
            let keys = [1, 2, 3, 5];
            let found: Vec<_> = beside(keys.iter(), &map).collect();
            let looked_up: Vec<_> = keys.iter().map(|k| (k, map.get(k))).collect();
            assert_eq!(found, looked_up, "{values:?}");
        }
    }
}
