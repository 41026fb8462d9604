#!/bin/sh
# Runs the phases of a recipe, each a file beside this one, and packs what they
# installed into $DEST as one layer: recipe.sh NAME OUTPUT.
set -eu
name=$1 output=$2
mkdir "$DEST"
for phase in /usr/lib/hallmark/recipe/[0-9][0-9]-*; do
	called=${phase##*/[0-9][0-9]-}
	printf '== phase %s\n' "$called"
	code=0
	(cd /build/src && exec sh -e "$phase") || code=$?
	if [ "$code" -ne 0 ]; then
		printf '== phase %s of %s ended with exit code %s\n' "$called" "$name" "$code"
		exit "$code"
	fi
done

# One tree: /bin, /sbin, /lib and /lib64 are links into /usr.
cd "$DEST"
for d in bin sbin lib lib64; do
	if [ -d "$d" ] && [ ! -h "$d" ]; then
		mkdir -p "usr/$d"
		cp -a "$d/." "usr/$d/"
		rm -r "$d"
	fi
done

# libtool's files name folders of the build; the index of manuals belongs to a system.
find . -name '*.la' -type f -delete
rm -f usr/share/info/dir
mkdir -p usr/share/hallmark/files
find . ! -type d | sed 's|^\./||' | LC_ALL=C sort | grep -v '^usr/share/hallmark/' >/build/files || {
	printf '== %s installed nothing\n' "$name"
	exit 1
}
cp /build/files "usr/share/hallmark/files/$name"
tar --format=posix --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
	--pax-option=delete=atime,delete=ctime -cf "$output" .
