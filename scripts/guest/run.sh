#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Boots a kernel with this machine's files (read-only) and runs a command in it.
#
#   scripts/guest/run.sh KIND OUT COMMAND...      KIND: see kernel.sh
#
# OUT is the folder that the guest may write to; both see it under the same name, and
# OUT/console.log has everything that the guest said. The status is the command's; 97
# where the command was fine and the kernel was not (a warning, an oops, a leak), 98
# where the guest ended or hung without a status.
#
# stock-arm runs no program of this machine: its root is OUT/files, with the modules and
# busybox as its shell.
#
#   LIMIT=600       seconds until the guest is ended
#   GUEST_ARGS=     more of the kernel's command line

set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
kind=${1:?usage: $0 KIND OUT COMMAND...}
mkdir -p "${2:?usage: $0 KIND OUT COMMAND...}"
out=$(cd "$2" && pwd)
shift 2

# What a guest's first process finds in its initial ramdisk; then init.sh takes over.
initrd() {
	dir=$(mktemp -d)
	mkdir -p "$dir"/{bin,dev,proc,root,modules}
	cp "$("$here/kernel.sh" busybox)/bin/busybox" "$dir/bin/busybox"
	number=100
	if [ -d "$kernel/root" ]; then
		for module in virtio_pci 9pnet_virtio 9p virtio_rng; do
			/sbin/modprobe -d "$kernel/root" -S "$release" --show-depends $module
		done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$dir/list"
		while read -r file; do
			name=$dir/modules/$number-$(basename "${file%.xz}")
			case $file in
			*.xz) xz -dc "$file" >"$name" ;;
			*) cp "$file" "$name" ;;
			esac
			number=$((number + 1))
		done <"$dir/list"
	fi
	cat >"$dir/init" <<-END
		#!/bin/busybox sh
		/bin/busybox mount -t devtmpfs dev /dev
		for module in /modules/*.ko; do
			[ ! -e "\$module" ] || /bin/busybox insmod "\$module"
		done
		/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro host /root
		exec /bin/busybox switch_root /root "$here/init.sh"
	END
	chmod +x "$dir/init"
	(cd "$dir" && find . | cpio -o -H newc --quiet | gzip -1) >"$out/initrd"
	rm -r "$dir"
}

in_uml() {
	# its memory is a file: a small /dev/shm would end it in the middle
	tmp=/dev/shm
	[ "$(df --output=avail "$tmp" 2>/dev/null | tail -n 1)" -gt 1200000 ] ||
		tmp=${TMPDIR:-/tmp}
	TMPDIR=$tmp timeout -k 5 "${LIMIT:-600}" "$kernel/image" mem=1024M \
		rootfstype=hostfs rootflags=/ hostfs=/ ro init="$here/init.sh" \
		con=null con0=fd:0,fd:1 ssl=null $append </dev/null
}

in_qemu() {
	initrd
	timeout -k 5 "${LIMIT:-600}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max \
		-smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot \
		-serial stdio -device virtio-rng-pci \
		-fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
		-device virtio-9p-pci,fsdev=host,mount_tag=host \
		-fsdev "local,id=out,path=$out,security_model=none,multidevs=remap" \
		-device virtio-9p-pci,fsdev=out,mount_tag=out \
		-kernel "$kernel/image" -initrd "$out/initrd" \
		-append "console=ttyS0 $append" </dev/null
}

# A root in memory, with what is in OUT/files; its status is the last that it says.
in_arm() {
	dir=$(mktemp -d)
	mkdir -p "$dir"/{bin,dev,proc,sys,modules}
	cp "$kernel/root/bin/busybox" "$dir/bin"
	find "$top/build/kernel/$kind" -name '*.ko' -exec cp {} "$dir/modules" \;
	cp -r "$out/files/." "$dir"
	{
		printf '#!/bin/busybox sh\n'
		printf '/bin/busybox --install -s /bin\nexport PATH=/bin\n'
		printf 'mount -t %s %s\n' 'proc proc' /proc 'sysfs sys' /sys 'devtmpfs dev' /dev \
			'debugfs debug' /sys/kernel/debug
		# shellcheck disable=SC2016 # the guest's shell
		printf 'echo "GUEST: start $(uname -r)"\n%s\n' "$job"
		# shellcheck disable=SC2016
		printf 'echo "GUEST: status $?"\npoweroff -f\n'
	} >"$dir/init"
	chmod +x "$dir/init"
	(cd "$dir" && find . | cpio -o -H newc --quiet | gzip -1) >"$out/initrd"
	rm -r "$dir"
	timeout -k 5 "${LIMIT:-600}" qemu-system-arm -M virt -cpu max -smp 2 -m 512 \
		-nodefaults -no-user-config -display none -no-reboot -serial stdio \
		-kernel "$kernel/image" -initrd "$out/initrd" \
		-append "console=ttyAMA0 $append" </dev/null | tr -d '\r' | tee "$out/said"
	sed -n 's/^GUEST: status \([0-9]*\)$/\1/p' "$out/said" >"$out/status"
}

# Whatever a kernel says when something is wrong; before the command it is not ours.
kernel_faults() {
	sed -n '/^GUEST: start/,$p' "$out/console.log" | grep -nE -A 40 \
		'BUG:|WARNING:|Oops|KASAN|UBSAN|Kernel panic|general protection|INFO: (task|possible|rcu|trying)|possible .* detected|suspicious RCU|unreferenced object|corruption|ODEBUG|refcount_t|scheduling while atomic|DEBUG_LOCKS|soft lockup|self-detected stall'
}

kernel=$("$here/kernel.sh" "$kind")
job=$(printf '%q ' "$@")
rm -f "$out"/{status,job.sh,initrd}
# what the guest's shell is to do, in the same folder and with the tree's Python
{
	printf 'cd %q\n' "$top"
	printf 'export GUEST_KERNEL=%q GUEST_KIND=%q GUEST_OUT=%q GUEST_MODULES=%q\n' "$kernel" "$kind" "$out" "$top/build/kernel/$kind"
	printf 'export PATH=%q\n' "$top/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	[ -z "${CI:-}" ] || echo 'export CI=1'
	# UML gathers randomness for minutes, and Python waits for it: RNDADDENTROPY
	echo "python -S -c 'import fcntl, struct; fcntl.ioctl(open(\"/dev/random\", \"wb\")," \
		"0x40085203, struct.pack(\"ii64s\", 512, 64, b\"$RANDOM$RANDOM$RANDOM\"))'"
	echo "$job"
} >"$out/job.sh"

# QEMU's tables of interrupts take a slow kernel half a minute for each device, and it
# does without; without any ACPI it would have one processor only
[ "$kind" != x86-debug ] || GUEST_ARGS="acpi=noirq ${GUEST_ARGS:-}"
append="loglevel=5 panic=-1 kasan_multi_shot guest.out=$out ${GUEST_ARGS:-}"
case $kind in
uml-*) in_uml ;;
*-arm)
	"$top/scripts/bootstrap.sh" need qemu-system-arm qemu-system-arm cpio cpio
	in_arm
	;;
*)
	"$top/scripts/bootstrap.sh" need qemu-system-x86_64 qemu-system-x86 cpio cpio
	release=$(basename "$(readlink "$kernel/image")")
	release=${release#vmlinuz-}
	in_qemu
	;;
esac >"$out/console.log" 2>&1 || true
rm -f "$out/initrd"

if [ ! -s "$out/status" ]; then
	tail -n 60 "$out/console.log"
	echo "error: the guest ended without a status" >&2
	exit 98
fi
status=$(cat "$out/status")
sed -n '/^GUEST: start/,/^GUEST: status/p' "$out/console.log" | tr -d '\r' | grep -v '^GUEST:' || true
if kernel_faults >"$out/faults.log"; then
	cat "$out/faults.log"
	echo "error: the guest's kernel complained" >&2
	[ "$status" -ne 0 ] || status=97
fi
exit "$status"
