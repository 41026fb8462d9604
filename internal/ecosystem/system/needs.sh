name=%[1]s
cd "$DEST"
{
	find . ! -type d | sed 's|.*/||'
	cat /usr/share/hallmark/files/* | sed 's|.*/||'
} | LC_ALL=C sort -u >/build/installed
platform=
if ! grep -qx 'libc\.so\.6' /build/installed; then
	platform='ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1 libresolv.so.2 libanl.so.1 libnsl.so.1 libmvec.so.1 libcrypt.so.1 libgcc_s.so.1 libstdc++.so.6 libatomic.so.1'
fi
missing=0
find . -type f | LC_ALL=C sort >/build/candidates
while IFS= read -r f; do
	[ "$(head -c 4 "$f" | od -An -tx1 | tr -d ' ')" = 7f454c46 ] || continue
	{
		readelf -dW "$f" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p'
		readelf -lW "$f" 2>/dev/null | sed -n 's|.*\[Requesting program interpreter: .*/\(.*\)\].*|\1|p'
	} >/build/wants
	while IFS= read -r want; do
		case " $platform " in *" $want "*) continue ;; esac
		grep -qxF -e "$want" /build/installed && continue
		printf '== error: %%s of %%s needs %%s, which nothing that it says it runs with installs: name the recipe that does under needs.run in %%s.yaml\n' "${f#./}" "$name" "$want" "$name"
		missing=1
	done </build/wants
done </build/candidates
exit "$missing"
