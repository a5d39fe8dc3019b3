//! Values by a small index, a few beside each other: none moves, and finding one is one step.

/// A page is no larger than this: accounts fill it exactly, an allocator has a size of its own for it, and memory that no
/// value was put into yet is not touched.
const PAGE_BYTES: usize = 16_384;

/// A growing number of values. A place that was left is taken again.
pub(super) struct Pages<T> {
    pages: Vec<Vec<Option<T>>>,
    left: Vec<u32>,
}

impl<T> Pages<T> {
    /// Values in one page: a power of two, so that a place is found without dividing.
    const PAGE: usize = match PAGE_BYTES.checked_div(size_of::<Option<T>>()) {
        Some(0) | None => 1,
        Some(values) => 1 << values.ilog2(),
    };

    pub(super) const fn new() -> Self {
        Self { pages: Vec::new(), left: Vec::new() }
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (page, place) = Self::page_and_place(index);
        self.pages.get(page)?.get(place)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (page, place) = Self::page_and_place(index);
        self.pages.get_mut(page)?.get_mut(place)?.as_mut()
    }

    /// Puts a value in; returns its index.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.left.pop() {
            let (page, place) = Self::page_and_place(index);
            let left = self.pages.get_mut(page).and_then(|page| page.get_mut(place)).expect("a place that was left");
            *left = Some(value);
            return index;
        }
        if self.pages.last().is_none_or(|page| page.len() >= Self::PAGE) {
            self.pages.push(Vec::with_capacity(Self::PAGE));
        }
        let index = self.end();
        let page = self.pages.last_mut().expect("pushed just now, if there was none");
        page.push(Some(value));
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let (page, place) = Self::page_and_place(index);
        let value = self.pages.get_mut(page)?.get_mut(place)?.take()?;
        self.left.push(index);
        Some(value)
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.end()).expect("32 bits fit").saturating_sub(self.left.len())
    }

    /// Every index that was ever given is below this.
    pub(super) fn end(&self) -> u32 {
        let full = self.pages.len().saturating_sub(1).saturating_mul(Self::PAGE);
        let last = self.pages.last().map_or(0, Vec::len);
        u32::try_from(full.saturating_add(last)).expect("what is kept here is bounded far below 2^32")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.pages.iter().flatten()).filter_map(|(index, value)| Some((index, value.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..).zip(self.pages.iter_mut().flatten()).filter_map(|(index, value)| Some((index, value.as_mut()?)))
    }

    fn page_and_place(index: u32) -> (usize, usize) {
        let index = usize::try_from(index).expect("32 bits fit");
        (index.checked_div(Self::PAGE).unwrap_or(0), index & Self::PAGE.saturating_sub(1))
    }
}
