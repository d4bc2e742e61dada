"""Chinese for the sentences of setting a host up."""

CATALOG: dict[str, str] = {
    "To {purpose}, on {system}:": "目的：{purpose}；系统：{system}：",
    "--repo-key and --repo-fingerprint belong together": "--repo-key 与 --repo-fingerprint 必须同时给出",
    "--repo-key is for a repository that --repo-url names": "--repo-key 用于 --repo-url 所指的软件源",
    "{path} is no folder": "{path} 不是目录",
    "Nothing is to be done: what was asked for holds already.": "无需任何操作：所要求的状态已经具备。",
    "{count} more hold already.": "另有 {count} 项已经具备。",
    "A reboot is needed.": "需要重启。",
    "The plan ends here; when the last step is done, plan again.": "计划到此为止；完成最后一步后，请重新生成计划。",
    "takes effect at the next boot": "下次启动时生效",
    "a key is only taken when its whole fingerprint is the one that you name": "只有密钥的完整指纹与你给出的一致时才会采用它",
    "by hand": "需人工完成",
    "A reboot ends everything that runs on this host.": "重启会终止本机上运行的一切。",
    "The out-of-tree driver isgx is no longer maintained by anyone; PSW 2.28 and later do not support it, so that "
    "enclaves run only with software of 2.27 or older, and DCAP quotes are impossible.": (
        "树外驱动 isgx 已无人维护；PSW 2.28 及以后版本不再支持它，因此 enclave 只能配合 2.27 或更早的软件运行，且无法生成 DCAP quote。"
    ),
    "This board: {board}; its BIOS: {bios}.": "本机主板：{board}；BIOS：{bios}。",
    "The driver of old was asked for.": "要求使用旧驱动。",
    "Add Fortanix's repository, compare its key's fingerprint with Fortanix's page, install the driver.": (
        "添加 Fortanix 的软件源，将其密钥指纹与 Fortanix 网页上的核对，然后安装驱动。"
    ),
    "A module that is blacklisted is not loaded at the next boot.": "被列入黑名单的模块在下次启动时不会加载。",
    "The new kernel runs from the next boot on.": "新内核自下次启动起运行。",
    "Build and install the kernel module package that Oasis publishes for this release.": (
        "构建并安装 Oasis 为该发行版发布的内核模块软件包。"
    ),
    "Run Intel's installer of the driver for this release, after comparing its checksum.": (
        "核对校验和之后，运行 Intel 为该发行版提供的驱动安装程序。"
    ),
    "The old driver isgx disturbs the kernel's own.": "旧驱动 isgx 会干扰内核自带的驱动。",
    "The distribution's own newer kernel is in {suite}.": "发行版自己的较新内核在 {suite} 中。",
    "Upgrade this system to a release whose kernel has SGX; this one has none of its own.": (
        "请将系统升级到内核支持 SGX 的版本；本版本没有这样的内核。"
    ),
    "This processor has flexible launch control: the kernel's own driver serves it, and isgx would harm.": (
        "该处理器支持灵活启动控制：应由内核自带的驱动提供服务，isgx 反而有害。"
    ),
    "SGX is off, and this BIOS lets software enable it for the next boot.": (
        "SGX 处于关闭状态，此 BIOS 允许软件在下次启动时启用它。"
    ),
    "SGX will be enabled at the next boot.": "SGX 将在下次启动时启用。",
    "SGX is not usable.": "SGX 不可用。",
    "The old kernel stays and can be chosen at boot.": "旧内核保留，启动时可以选择。",
    "Modules that were built for the old kernel (DKMS) must be built again.": "为旧内核构建的模块（DKMS）必须重新构建。",
    "Reboot, and see that /dev/isgx is there.": "重启，并确认 /dev/isgx 存在。",
    "Programs that were built for /dev/isgx stop working.": "为 /dev/isgx 构建的程序将不再工作。",
    "A driver that Intel's .bin installed is removed by /opt/intel/sgxdriver/uninstall.sh, by hand.": (
        "由 Intel 的 .bin 安装的驱动须手工运行 /opt/intel/sgxdriver/uninstall.sh 卸载。"
    ),
    "The suite of a release whose support has ended moves to archive.debian.org.": (
        "已停止支持的版本，其软件源会移到 archive.debian.org。"
    ),
    "Packages of backports are installed only where they are asked for by name.": (
        "backports 中的软件包只有按名指定时才会安装。"
    ),
    "Leave out --driver legacy.": "请去掉 --driver legacy。",
    "Some firmware forgets the setting; then SGX must be enabled in the BIOS set-up.": (
        "有些固件会忘记该设置；此时必须在 BIOS 设置中启用 SGX。"
    ),
    "The boot loader's configuration is written anew.": "引导加载程序的配置会重新生成。",
    "As a last resort only: a mainline kernel of Ubuntu's kernel team. It gets no security updates, is not signed "
    "(Secure Boot refuses it), and must be verified: check CHECKSUMS.gpg, then the sums, and install the headers of "
    "both kinds.": (
        "仅作为最后手段：Ubuntu 内核团队的 mainline 内核。它没有安全更新，没有签名（Secure Boot 会拒绝），"
        "并且必须校验：先检查 CHECKSUMS.gpg，再核对校验和，并安装两种头文件包。"
    ),
    "Secure Boot is on: the kernel refuses the module unless you sign it with a key of yours.": (
        "Secure Boot 已开启：除非用你自己的密钥为该模块签名，否则内核会拒绝它。"
    ),
    "A membership reaches a user's sessions only after a new login.": "组成员身份只有在重新登录后才对用户的会话生效。",
    "/dev is mounted noexec, so no enclave can be mapped.": "/dev 以 noexec 挂载，因此无法映射任何 enclave。",
    "Group sgx owns the enclave device; systemd 248 and later know it too.": (
        "enclave 设备归 sgx 组所有；systemd 248 及以后版本也使用该组。"
    ),
    "Group sgx_prv owns the provision device; Intel's packages use it but make it only where the device is.": (
        "provision 设备归 sgx_prv 组所有；Intel 的软件包使用该组，但只在设备存在时才创建它。"
    ),
    "The rules reach the devices that are already there.": "使规则对已有的设备生效。",
    "udev gives the devices to their groups and links the old names, also after a reboot.": (
        "udev 将设备交给相应的组并建立旧名称的链接，重启后依然如此。"
    ),
    "{user} may run enclaves.": "{user} 可以运行 enclave。",
    "{user} may make quotes without AESM.": "{user} 可以不经 AESM 生成 quote。",
    "A wrong line in /etc/fstab can keep a host from booting; this one has the options of now.": (
        "/etc/fstab 中的错误行可能使主机无法启动；此行沿用当前的挂载选项。"
    ),
    "Whoever may open the provision device can tell this platform apart from others.": (
        "能打开 provision 设备的人可以将本平台与其他平台区分开来。"
    ),
    "Intel's packages for SGX come from this repository.": "Intel 的 SGX 软件包来自该软件源。",
    "AESM runs in a container from the image {image}, now and at every boot.": (
        "AESM 以镜像 {image} 在容器中运行，现在以及每次启动时。"
    ),
    "The key is taken only if its fingerprint is {fingerprint}.": "只有指纹为 {fingerprint} 的密钥才会被采用。",
    "Only one AESM may run: the one that starts later takes the socket away from the other.": (
        "只能运行一个 AESM：后启动的会夺走另一个的套接字。"
    ),
    "AESM, its quote plug-ins and the quote provider; no other package brings the provider along.": (
        "AESM、其 quote 插件以及 quote provider；后者不会被其他软件包带入。"
    ),
    "AESM's quoting enclave needs the provision device.": "AESM 的 quoting enclave 需要 provision 设备。",
    "AESM needs the enclave device.": "AESM 需要 enclave 设备。",
    "AESM runs now and at every boot.": "AESM 现在以及每次启动时运行。",
    "The image is named by a tag, which may change; pin it with --aesm-image.": (
        "该镜像以标签命名，内容可能变化；请用 --aesm-image 固定。"
    ),
    "systemd reads the new unit.": "systemd 读取新的单元。",
    "The configuration is read once, at the start.": "配置只在启动时读取一次。",
    "The PCCS caches certificates and collateral for this host or for many.": (
        "PCCS 为本机或多台主机缓存证书与 collateral。"
    ),
    "These packages no longer exist since PSW 2.28 and clash with today's.": (
        "这些软件包自 PSW 2.28 起不复存在，并与现在的软件包冲突。"
    ),
    "Intel has no packages for this system.": "Intel 没有适用于本系统的软件包。",
    "AESM is to run in a container, and {engine} is not installed.": "AESM 将在容器中运行，而 {engine} 尚未安装。",
    "AESM reads its configuration, its groups and its plug-ins once, at its start.": (
        "AESM 只在启动时读取一次其配置、所属组与插件。"
    ),
    "The PCCS needs a key of Intel's service, tokens of yours and a certificate, which only you have.": (
        "PCCS 需要 Intel 服务的密钥、你自己的令牌以及证书，这些只有你才有。"
    ),
    "Intel no longer feeds this release: its packages are of 2024 and get no fixes.": (
        "Intel 已不再更新该版本：其软件包停留在 2024 年，不再修复。"
    ),
    "For this system Intel publishes its repository as an archive only.": "对于本系统，Intel 只以归档文件发布其软件源。",
    "Packages of before PSW 2.28 and of after do not mix.": "PSW 2.28 之前与之后的软件包不能混用。",
    "Put your region into the URL: REGION stands for it.": "请将 URL 中的 REGION 换成你的地域。",
    "The PCCS's own certificate is not checked; it is this host's.": "不检查 PCCS 自己的证书；它就在本机上。",
    "The quote provider must know where certificates come from.": "quote provider 必须知道从哪里获取证书。",
    "It needs Node.js 22.13 or later, which most systems do not have among their packages.": (
        "它需要 Node.js 22.13 或更新版本，多数系统的软件包中没有。"
    ),
    "The agent sends the platform's manifest to Intel, at the next boot.": (
        "注册代理会在下次启动时将平台 manifest 发送给 Intel。"
    ),
    "Its unit being inactive (dead) afterwards is normal; /var/log/mpa_registration.log tells.": (
        "此后其单元处于 inactive (dead) 是正常的；请看 /var/log/mpa_registration.log。"
    ),
    "Programs that still ask for EPID or for launch tokens stop working.": (
        "仍然请求 EPID 或启动令牌的程序将不再工作。"
    ),
    "Taking this back needs a repository that still has these versions.": "要撤销此项，需要仍有这些版本的软件源。",
    "Choose --aesm podman or --aesm docker, or name a repository with --repo-url.": (
        "请选择 --aesm podman 或 --aesm docker，或用 --repo-url 指定软件源。"
    ),
    "Choose another system for the PCCS, or name a repository with --repo-url.": (
        "请为 PCCS 另选系统，或用 --repo-url 指定软件源。"
    ),
    "Run its set-up, which asks for them, and start it.": "运行它的设置程序（会询问这些内容），然后启动它。",
    "It does not update itself: a newer release is another archive.": "它不会自行更新：新版本是另一个归档文件。",
    "Install {engine} as your system's manual says.": "请按系统手册安装 {engine}。",
    "is no action that is known": "不是已知的操作",
    "{text} cannot be used as this": "{text} 不能用于此处",
    "has bits beyond the nine of access": "含有九个访问位以外的位",
    "is no line for this mount point": "不是该挂载点的行",
    "{path} is larger than {limit} bytes": "{path} 大于 {limit} 字节",
    "`{command}` ended with status {status}": "`{command}` 以状态 {status} 结束",
    "program {name} is not installed": "未安装程序 {name}",
    "{name} cannot be run: {reason}": "无法运行 {name}：{reason}",
    "It said: {text}": "它的输出：{text}",
    "a program did not end within {seconds:g} seconds": "程序未在 {seconds:g} 秒内结束",
    "Enclaves and certificates need the right time; more than half a second off stops an Oasis node.": (
        "enclave 与证书需要正确的时间；偏差超过半秒会使 Oasis 节点停止。"
    ),
    "Some of these steps take effect at the next boot.": "其中一些步骤在下次启动时生效。",
    "This is a container: its devices, groups and AESM are the host's.": "这是容器：其设备、组与 AESM 都属于宿主机。",
    "Pods get SGX from a device plug-in, which is installed once for the cluster.": (
        "Pod 通过设备插件获得 SGX，该插件在集群中只需安装一次。"
    ),
    "Gramine comes from its own repository, whose key you must trust yourself.": (
        "Gramine 来自它自己的软件源，其密钥须由你自己决定信任。"
    ),
    "step {step}: {problem}": "步骤 {step}：{problem}",
    "Another time service that is installed but does not run is replaced.": "已安装但未运行的其他时间服务会被替换。",
    "Set up the host, and give the container its devices and the folder of AESM's socket.": (
        "请设置宿主机，并把设备和 AESM 套接字所在的目录交给容器。"
    ),
    "Add Gramine's repository for this release as its guide says, and install package gramine.": (
        "请按 Gramine 的指南为该版本添加其软件源，并安装软件包 gramine。"
    ),
    "add repository {uri}": "添加软件源 {uri}",
    "unpack {url} to {folder}": "将 {url} 解包到 {folder}",
    "install {names}": "安装 {names}",
    "remove {names}": "卸载 {names}",
    "write {path}, mode {mode}": "写入 {path}，权限 {mode}",
    "delete {path}": "删除 {path}",
    "set the line for {mount} in /etc/fstab": "设置 /etc/fstab 中 {mount} 的行",
    "remount {mount} with option {option}": "以选项 {option} 重新挂载 {mount}",
    "create system group {group}": "创建系统组 {group}",
    "add user {user} to group {group}": "将用户 {user} 加入组 {group}",
    "enable and start {unit}": "启用并启动 {unit}",
    "start {unit}": "启动 {unit}",
    "stop and disable {unit}": "停止并禁用 {unit}",
    "restart {unit} if it runs": "若 {unit} 正在运行则重启它",
    "let udev read its rules again": "让 udev 重新读取规则",
    "let systemd read its units again": "让 systemd 重新读取单元",
    "write EFI variable {name}: {data}": "写入 EFI 变量 {name}：{data}",
    "take {argument} off the kernel's command line": "从内核命令行中去掉 {argument}",
    "reboot": "重启",
    "for a person: {topic}": "需人工完成：{topic}",
    "serve collateral to other hosts": "向其他主机提供 collateral",
    "{option}: {text} cannot be used": "{option}：{text} 无法使用",
    "{option}: {text} is no URL of {schemes}": "{option}：{text} 不是 {schemes} 的 URL",
    "--repo-fingerprint must be the 40 or 64 hexadecimal digits of a whole fingerprint": (
        "--repo-fingerprint 必须是完整指纹的 40 或 64 位十六进制数字"
    ),
    "drifted": "已偏离",
    "unfinished": "未完成",
    "cannot be seen": "无法看出",
    "Done.": "完成。",
    "The host reboots; start the same command again afterwards.": "主机正在重启；之后请再次运行同一命令。",
    "Taken back: {count} steps.": "已撤销 {count} 个步骤。",
    "only root may read the journal": "只有 root 可以读取操作日志",
    "done in {seconds:.1f} s": "完成，用时 {seconds:.1f} 秒",
    "holds already": "已经具备",
    "there is nobody to ask": "无人可以询问",
    "Do these {count} steps?": "执行这 {count} 个步骤？",
    "Left for a person: {steps}.": "留待人工完成：{steps}。",
    "Take these {count} steps back?": "撤销这 {count} 个步骤？",
    "{step}: {why}": "{step}：{why}",
    "run it with sudo": "请用 sudo 运行",
    "Nothing was done to this host.": "未对本机做过任何操作。",
    "give --yes to do it without asking": "加上 --yes 即可不经询问执行",
    "There is nothing to take back.": "没有可撤销的操作。",
    "It was done by sgxkit.": "由 sgxkit 完成。",
    "{path} stays: it was changed since": "{path} 保留：此后已被修改",
    "group {group} stays: {users} joined it since": "组 {group} 保留：此后 {users} 加入了该组",
    "the key at {url} is not the trusted one: {found} instead of {fingerprint}": (
        "{url} 处的密钥不是受信任的密钥：得到 {found}，应为 {fingerprint}"
    ),
    "{url} is no OpenPGP key": "{url} 不是 OpenPGP 密钥",
    "somebody may have replaced it; if the owner did, name the new one yourself": (
        "它可能被人替换；若是所有者更换的，请自行指定新的密钥"
    ),
    "{url} does not exist": "{url} 不存在",
    "{url} cannot be fetched: {reason}": "无法获取 {url}：{reason}",
    "{url} has no folder {name}": "{url} 中没有目录 {name}",
    "a mirror can be named with --repo-url, --repo-key and --repo-fingerprint": (
        "可以用 --repo-url、--repo-key 和 --repo-fingerprint 指定镜像"
    ),
    "{url} is larger than {limit} bytes": "{url} 大于 {limit} 字节",
    "installing {names} would remove {removed}": "安装 {names} 会卸载 {removed}",
    "remove them yourself first if that is what you want": "如果这正是你想要的，请先自行卸载",
    "step {step} was done, but its effect does not show": "步骤 {step} 已执行，但看不到其效果",
    "step {step} is for a person": "步骤 {step} 需人工完成",
    "`systemctl status` or the log of the unit may say why": "`systemctl status` 或该单元的日志可能说明原因",
    "the journal is damaged: {problem}": "操作日志已损坏：{problem}",
    "only root may change this host": "只有 root 可以更改本机",
    "the journal has lost the content {name}": "操作日志丢失了内容 {name}",
    "the journal in {folder} was written by another version of sgxkit": "{folder} 中的操作日志由另一版本的 sgxkit 写成",
    "another sgxkit works on this host": "另一个 sgxkit 正在本机上工作",
    "use that version to take its steps back": "请用该版本撤销其步骤",
    "wait until it has ended": "请等它结束",
    "--hosts cannot be combined with --root, --facts or --export": "--hosts 不能与 --root、--facts 或 --export 同用",
    "--hosts cannot be combined with --verbose, --html, --export or --facts": (
        "--hosts 不能与 --verbose、--html、--export 或 --facts 同用"
    ),
    "{good} of {count} hosts done, in {seconds:.1f} s.": "{count} 台主机中有 {good} 台完成，用时 {seconds:.1f} 秒。",
    "Change these {count} hosts?": "更改这 {count} 台主机？",
    "waiting": "等待中",
    "Password of sudo": "sudo 的密码",
    "Password of the log-in": "登录密码",
    "connected": "已连接",
    "rebooting": "正在重启",
    "through": "已完成",
    "failed": "失败",
    "{path}: {name} failed: {reason}": "{path}：{name} 失败：{reason}",
    "not begun": "未开始",
    "done": "完成",
    "could not tell": "无法判断",
    "host": "主机",
    "seconds": "秒",
    "round trips": "往返次数",
    "what": "内容",
    "it did not come back from its reboot in time": "它未能按时从重启中恢复",
    "no connection: {reason}": "无法连接：{reason}",
    "sudo is refused: {reason}": "sudo 被拒绝：{reason}",
    "root's rights are needed: log in as root, or use sudo": "需要 root 权限：请以 root 登录，或使用 sudo",
    "{error} {said}": "{error} {said}",
    "the connection broke: {reason}": "连接中断：{reason}",
    "the host answered with something else": "主机的应答不符合预期",
    "is not known": "未知",
    "needs tables [[host]], and perhaps [defaults]": "需要 [[host]] 表，以及可选的 [defaults]",
    "must have between 1 and {limit} entries": "必须有 1 到 {limit} 个条目",
    "{option} names no host": "{option} 没有指定任何主机",
    "host {name} is listed twice": "主机 {name} 列出了两次",
    "is not a table": "不是表",
    "is of the wrong type": "类型错误",
    "--hosts needs pyinfra, which is not installed": "--hosts 需要 pyinfra，但尚未安装",
    "pip install 'sgxkit[setup]'": "pip install 'sgxkit[setup]'",
    "the process that talks to the hosts broke: {reason}": "与各主机通信的进程出错：{reason}",
}
