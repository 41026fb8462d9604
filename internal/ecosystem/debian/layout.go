package debian

// LayoutVersion names the rules by which a set of packages becomes a tree. Any
// change of the rules that can change a byte of the tree needs a new one.
const LayoutVersion = "hallmark-seed-layout/1"
