//! Unique names of items.

use std::cmp::Ordering;

use super::Item;

/// A path as a name: its parts joined with `/`, without the root, `.` and empty parts; `..` removes the part before it.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Makes every name unique: of several items with one name, all but the first get the suffix `#2`, `#3`, …. Exact repetitions are
/// removed; returns their former indices in ascending order.
pub(super) fn make_unique(items: &mut Vec<Item>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let compare = |a: &Item, b: &Item| -> Ordering {
        a.name.cmp(&b.name).then_with(|| (&a.place, &a.caption, a.label).cmp(&(&b.place, &b.caption, b.label)))
    };
    order.sort_by(|&a, &b| compare(&items[a], &items[b]).then(a.cmp(&b)));
    let mut repeated: Vec<usize> =
        order.windows(2).filter(|w| compare(&items[w[0]], &items[w[1]]).is_eq()).map(|w| w[1]).collect();
    repeated.sort_unstable();
    let mut renamed = Vec::new();
    for run in order.chunk_by(|&a, &b| items[a].name == items[b].name).filter(|run| run.len() > 1) {
        let mut kept: Vec<usize> = run.iter().copied().filter(|i| repeated.binary_search(i).is_err()).collect();
        kept.sort_unstable();
        let mut number = 1;
        for &item in &kept[1..] {
            let name = loop {
                number += 1;
                let name = format!("{}#{number}", items[item].name);
                if order.binary_search_by(|&i| items[i].name.cmp(&name)).is_err() {
                    break name;
                }
            };
            renamed.push((item, name));
        }
    }
    for (item, name) in renamed {
        items[item].name = name;
    }
    let mut index = 0;
    items.retain(|_| {
        index += 1;
        repeated.binary_search(&(index - 1)).is_err()
    });
    repeated
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::dataset::MediaLocation;

    fn item(name: &str, caption: &str) -> Item {
        let place = MediaLocation::Path(name.into());
        Item { name: name.into(), place, label: None, caption: Some(caption.into()), info: None }
    }

    #[test]
    fn names_stay_below_the_root() {
        for (path, name) in [("/a//b/./c.mp4", "a/b/c.mp4"), ("../../x.mp4", "x.mp4"), ("a/../b.mp4", "b.mp4"), ("./a", "a")] {
            assert_eq!(clean(path), name);
        }
    }

    #[test]
    fn the_same_video_with_another_caption_is_another_item() {
        let mut items = vec![item("a", "1"), item("a#2", ""), item("a", "2"), item("b", "1"), item("a", "1"), item("a", "0")];
        assert_eq!(make_unique(&mut items), [4]);
        let named: Vec<(&str, &str)> = items.iter().map(|i| (i.name.as_str(), i.caption.as_deref().unwrap())).collect();
        assert_eq!(named, [("a", "1"), ("a#2", ""), ("a#3", "2"), ("b", "1"), ("a#4", "0")]);
    }

    proptest! {
        #[test]
        fn no_two_names_are_the_same(rows in prop::collection::vec(("a|a#2|a#2#2|b|a#3", "x|y|z"), 0..40)) {
            let mut items: Vec<Item> = rows.iter().map(|(name, caption)| item(name, caption)).collect();
            let taken_out = make_unique(&mut items);
            prop_assert_eq!(items.iter().map(|i| &i.name).collect::<BTreeSet<_>>().len(), items.len());
            prop_assert_eq!(items.len(), rows.iter().collect::<BTreeSet<_>>().len());
            // The order is kept.
            let kept = (0..rows.len()).filter(|i| !taken_out.contains(i));
            prop_assert!(kept.zip(&items).all(|(i, item)| item.caption.as_deref() == Some(&rows[i].1)));
        }
    }
}
