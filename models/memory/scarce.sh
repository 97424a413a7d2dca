#!/bin/sh
# SPDX-License-Identifier: MIT
# A memory cgroup with too little memory, files and swap on slow disks of its own.
# The disks are loop devices over zram, so that no real one is in the way, with the
# blkio controller's limits; swap on zram itself would get round them. For root; needs cgroup v1 (memory, blkio), zram, losetup, mkfs.ext4, swapon, cc.
#
#   scarce.sh make DIR          disks, file, swap, groups, worker
#   scarce.sh limit DIR IOPS    requests a second that each disk may do; caches emptied
#   scarce.sh run DIR COMMAND   in the groups; FILE among its words is the big file
#   scarce.sh remove DIR        whatever of that is there
set -eu
NAME=pymlk-memory
MEMORY=/sys/fs/cgroup/memory/$NAME
BLOCK=/sys/fs/cgroup/blkio/$NAME
LIMIT=$((32 << 20)) BYTES_S=100000000
here=$(cd "$(dirname "$0")" && pwd)
verb=$1 dir=$2
shift 2

disk() { cat "$dir/$1.disk"; } # swap or file: loopN zramN
slow() { disk "$1" | cut -d' ' -f1; }

limits() { # IOPS
	for name in swap file; do
		number=$(cat "/sys/block/$(slow $name)/dev")
		for way in read write; do
			echo "$number $1" >"$BLOCK/blkio.throttle.${way}_iops_device"
			echo "$number $BYTES_S" >"$BLOCK/blkio.throttle.${way}_bps_device"
		done
	done
}

make() {
	mkdir -p "$dir/mnt" "$MEMORY" "$BLOCK"
	cc -O2 -Wall -o "$dir/worker" "$here/worker.c"
	echo $LIMIT >"$MEMORY/memory.limit_in_bytes"
	for name in swap file; do
		# reading it makes a disk
		zram=zram$(cat /sys/class/zram-control/hot_add)
		echo 600M >"/sys/block/$zram/disksize"
		loop=$(losetup --direct-io=on --find --show "/dev/$zram")
		echo "${loop##*/} $zram" >"$dir/$name.disk"
	done
	mkswap -q "/dev/$(slow swap)"
	swapon "/dev/$(slow swap)"
	mkfs.ext4 -q -E lazy_itable_init=0 "/dev/$(slow file)"
	mount -o noatime "/dev/$(slow file)" "$dir/mnt"
	head -c 500M /dev/zero >"$dir/mnt/file"
	sync
}

run() { # COMMAND...
	for word; do
		shift
		[ "$word" = FILE ] && word=$dir/mnt/file
		set -- "$@" "$word"
	done
	echo $$ >"$MEMORY/cgroup.procs"
	echo $$ >"$BLOCK/cgroup.procs"
	exec nice -n -12 "$dir/$@"
}

remove() {
	for pid in $(cat "$BLOCK/cgroup.procs" 2>/dev/null || :); do kill -9 "$pid"; done
	mountpoint -q "$dir/mnt" && umount "$dir/mnt"
	for name in swap file; do
		[ -e "$dir/$name.disk" ] || continue
		swapoff "/dev/$(slow $name)" 2>/dev/null || :
		losetup --detach "/dev/$(slow $name)"
		echo "$(disk $name | sed 's/.*zram//')" >/sys/class/zram-control/hot_remove
		rm "$dir/$name.disk"
	done
	rm -f "$dir/worker"
	for group in "$MEMORY" "$BLOCK"; do [ ! -d "$group" ] || rmdir "$group"; done
	[ ! -d "$dir/mnt" ] || rmdir "$dir/mnt"
}

case $verb in
make | remove) $verb ;;
limit)
	umount "$dir/mnt"
	mount -o noatime "/dev/$(slow file)" "$dir/mnt"
	limits "$1"
	;;
run) run "$@" ;;
*)
	sed -n '3,12s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
