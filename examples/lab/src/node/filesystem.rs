//! The file system of a rooted node: the machine's own, seen through an
//! overlay whose changes are kept in memory, with everything private or
//! dangerous covered up.
//!
//! Called in a mount namespace of the node's own, so that all of it vanishes
//! with the node's last process. The machine's homes, its runtime files and
//! its disks cannot be reached, its kernel settings only be read: a playbook
//! that goes wrong here harms the node alone.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_remount, unmount,
};

/// Kinds of file system that hold files rather than the kernel's own affairs.
const STORAGE: &[&str] = &[
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "9p", "virtiofs", "fuseblk", "nfs",
    "nfs4",
];

/// What a node gets afresh, or not at all: mounts of the machine below these are not taken over.
const COVERED: &[&str] = &["/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/home"];

/// The device files that programs expect. The machine's disks are not among them.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Everything that shapes one node's file system.
pub struct Filesystem<'a> {
    /// A folder of the machine on which the node's root is put together.
    pub base: &'a Path,
    /// The node's name.
    pub hostname: &'a str,
    /// The node's address.
    pub address: std::net::Ipv4Addr,
    /// The folder with sshd's keys and its configuration.
    pub keys: &'a Path,
    /// Where the node finds them.
    pub keys_inside: &'a Path,
    /// A folder of the machine that the node must not see: the lab's.
    pub hidden: &'a Path,
    /// A folder that it must see although it lies under a covered one.
    pub shown: Option<&'a Path>,
}

impl Filesystem<'_> {
    /// Builds it, and makes it this process's root.
    ///
    /// # Errors
    /// When the kernel refuses a mount; the context names it.
    pub fn enter(&self) -> Result<()> {
        let root = self.overlay_everything()?;
        self.cover(&root)?;
        devices(&root.join("dev"))?;
        self.kernel(&root)?;
        self.names(&root)?;
        pivot(&root)
    }

    fn overlay_everything(&self) -> Result<PathBuf> {
        tmpfs(self.base, "mode=755")?;
        let root = self.base.join("root");
        self.overlay(Path::new("/"), 0, &root)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
        for (number, point) in storage_mounts(&mounts).into_iter().enumerate() {
            let target = inside(&root, &point);
            if !target.is_dir() {
                continue;
            }
            // Some file systems cannot lie under an overlay: these are shown as they are, unwritable.
            if self.overlay(&point, number + 1, &target).is_err() {
                bind_read_only(&point, &target)?;
            }
        }
        Ok(root)
    }

    fn overlay(&self, lower: &Path, number: usize, target: &Path) -> Result<()> {
        let upper = self.base.join(format!("upper{number}"));
        let work = self.base.join(format!("work{number}"));
        for folder in [&upper, &work, &target.to_owned()] {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        // The top folder's mode and owner are the upper one's.
        let of_lower = fs::metadata(lower).with_context(|| format!("look at {}", lower.display()))?;
        fs::set_permissions(&upper, of_lower.permissions())?;
        chown(&upper, Some(of_lower.uid()), Some(of_lower.gid()))?;
        let (lower, upper, work) = (lower.display(), upper.display(), work.display());
        let options = CString::new(format!("lowerdir={lower},upperdir={upper},workdir={work}"))?;
        mount("overlay", target, "overlay", MountFlags::NODEV, options.as_c_str())
            .with_context(|| format!("lay a writable overlay over {lower}"))
    }

    fn cover(&self, root: &Path) -> Result<()> {
        tmpfs(&root.join("run"), "mode=755")?;
        tmpfs(&root.join("tmp"), "mode=1777")?;
        // For each home there is an empty one of the same name and owner.
        let mut homes = Vec::new();
        for entry in fs::read_dir("/home").into_iter().flatten().flatten() {
            homes.push((entry.file_name(), entry.metadata()?));
        }
        tmpfs(&root.join("home"), "mode=755")?;
        for (name, of_home) in homes.into_iter().filter(|(_, meta)| meta.is_dir()) {
            let home = root.join("home").join(name);
            fs::create_dir(&home)?;
            chown(&home, Some(of_home.uid()), Some(of_home.gid()))?;
        }
        tmpfs(&root.join("root"), "mode=700")?;
        let hidden = inside(root, self.hidden);
        if hidden.is_dir() {
            tmpfs(&hidden, "mode=700")?;
        }
        fs::create_dir_all(root.join("run/sshd"))?;
        fs::create_dir_all(root.join("run/lock"))?;
        bind_read_only(self.keys, &inside(root, self.keys_inside))?;
        if let Some(shown) = self.shown {
            let target = inside(root, shown);
            bind_read_only(shown, &target)?;
            open_path(root, &target)?;
        }
        Ok(())
    }

    fn kernel(&self, root: &Path) -> Result<()> {
        let proc = root.join("proc");
        let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", &proc, "proc", plain, None).context("mount /proc")?;
        for name in ["sys", "sysrq-trigger", "irq", "bus"] {
            let part = proc.join(name);
            if part.exists() {
                bind_read_only(&part, &part)?;
            }
        }
        // The network's settings are the node's own.
        let net = proc.join("sys/net");
        mount_bind(&net, &net)
            .and_then(|()| mount_remount(&net, MountFlags::BIND | plain, ""))
            .context("open /proc/sys/net")?;
        mount("sysfs", root.join("sys"), "sysfs", plain | MountFlags::RDONLY, None).context("mount /sys")
    }

    fn names(&self, root: &Path) -> Result<()> {
        let Self { hostname, address, .. } = self;
        let etc = root.join("etc");
        fs::write(etc.join("hostname"), format!("{hostname}\n")).context("write /etc/hostname")?;
        let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n{address} {hostname}\n");
        fs::write(etc.join("hosts"), hosts).context("write /etc/hosts")?;
        // A root account that the machine has locked with `!` would be refused by sshd.
        let shadow = etc.join("shadow");
        if let Ok(text) = fs::read_to_string(&shadow) {
            fs::write(&shadow, unlock_root(&text)).context("write /etc/shadow")?;
        }
        Ok(())
    }
}

/// Makes `root` this process's root and lets go of the old one.
fn pivot(root: &Path) -> Result<()> {
    std::env::set_current_dir(root).context("enter the node's root")?;
    rustix::process::pivot_root(".", ".").context("change the root")?;
    unmount(".", UnmountFlags::DETACH).context("let go of the machine's root")?;
    std::env::set_current_dir("/").context("enter the node's root")
}

fn devices(dev: &Path) -> Result<()> {
    tmpfs(dev, "mode=755")?;
    for name in DEVICES {
        let target = dev.join(name);
        fs::write(&target, "")?;
        mount_bind(Path::new("/dev").join(name), &target).with_context(|| format!("bind /dev/{name}"))?;
    }
    for folder in ["pts", "shm"] {
        fs::create_dir(dev.join(folder))?;
    }
    tmpfs(&dev.join("shm"), "mode=1777")?;
    // 5 is the group tty of every distribution.
    let options = c"newinstance,ptmxmode=0666,mode=620,gid=5";
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", dev.join("pts"), "devpts", flags, options).context("mount /dev/pts")?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

fn tmpfs(target: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    let options = CString::new(options)?;
    mount("tmpfs", target, "tmpfs", MountFlags::NODEV, options.as_c_str())
        .with_context(|| format!("mount a tmpfs on {}", target.display()))
}

fn bind_read_only(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    }
    mount_bind_recursive(source, target)
        .and_then(|()| mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, ""))
        .with_context(|| format!("show {} read-only", source.display()))
}

/// Lets everyone pass, not look, through the folders above `target`: they are
/// covers of the lab's own making.
fn open_path(root: &Path, target: &Path) -> Result<()> {
    let covers = COVERED.iter().map(|covered| inside(root, Path::new(covered)));
    let Some(cover) = covers.into_iter().find(|cover| target.starts_with(cover)) else {
        return Ok(());
    };
    let above = target.ancestors().skip(1).take_while(|folder| folder.starts_with(&cover));
    for folder in above {
        let mode = fs::metadata(folder)?.permissions().mode();
        fs::set_permissions(folder, Permissions::from_mode(mode | 0o111))?;
    }
    Ok(())
}

/// An absolute path of the machine as seen under `root`.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Where the machine has further storage mounted, from `/proc/self/mountinfo`.
fn storage_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let mount_point = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let point = left.split(' ').nth(4)?;
        STORAGE.contains(&kind).then(|| point.to_owned())
    };
    let covered = |point: &str| COVERED.iter().any(|folder| Path::new(point).starts_with(folder));
    mountinfo
        .lines()
        .filter_map(mount_point)
        // A blank is written \040 there, and an overlay's options know no commas or colons.
        .filter(|point| point != "/" && !covered(point) && !point.contains(['\\', ',', ':']))
        .map(PathBuf::from)
        .collect()
}

/// Replaces root's password field: `*` is no password, but no lock either.
fn unlock_root(shadow: &str) -> String {
    let line = |line: &str| match line.strip_prefix("root:").and_then(|rest| rest.split_once(':')) {
        Some((_, rest)) => format!("root:*:{rest}\n"),
        None => format!("{line}\n"),
    };
    shadow.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_storage_outside_the_covered_folders_is_taken_over() {
        let table = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /proc rw - proc proc rw
24 22 254:1 / /var rw shared:2 - xfs /dev/vdb rw
25 22 254:2 / /home rw - ext4 /dev/vdc rw
26 22 254:2 / /homework rw - ext4 /dev/vdc rw
27 22 0:40 / /mnt/my\\040disk rw - ext4 /dev/vdd rw
28 22 0:41 / /run/user/1000 rw - tmpfs tmpfs rw";
        let found = storage_mounts(table);
        assert_eq!(found, [PathBuf::from("/var"), PathBuf::from("/homework")]);
    }

    #[test]
    fn a_locked_root_is_opened_to_keys_alone() {
        let shadow = "root:!locked:20228:0:99999:7:::\ndaemon:*:1:0:9:7:::\n";
        let expected = "root:*:20228:0:99999:7:::\ndaemon:*:1:0:9:7:::\n";
        assert_eq!(unlock_root(shadow), expected);
    }
}
