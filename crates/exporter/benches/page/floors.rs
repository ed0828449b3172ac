//! What the page is held against: nginx with the same bytes in a file, and a loop that knows nothing but `writev`.

use std::{
    fs,
    io::{BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Result,
    support::process::{Killed, guarded, scratch},
};

/// Bytes of a slice of the bare loop.
const SLICE: usize = 64 << 10;

/// One nginx that serves the same file thrice.
#[derive(Debug)]
pub struct Nginx {
    process: Killed,
    pub version: String,
    pub sendfile: u16,
    pub no_sendfile: u16,
    pub gzip_static: u16,
    _scratch: TempDir,
}

impl Nginx {
    /// Serves this page, and its form as `gzip -6` makes it.
    pub fn start(page: &[u8], gzipped: &[u8]) -> Result<Self> {
        let program = installed()?;
        let scratch = scratch()?;
        let folder = scratch.path().display();
        fs::write(scratch.path().join("metrics"), page)?;
        fs::create_dir(scratch.path().join("packed"))?;
        // gzip_static asks for the plain file as well only when the client does.
        fs::write(scratch.path().join("packed/metrics"), page)?;
        fs::write(scratch.path().join("packed/metrics.gz"), gzipped)?;
        let [sendfile, no_sendfile, gzip_static] = free_ports()?;
        let config = scratch.path().join("nginx.conf");
        let server = |port: u16, root: &str, settings: &str| {
            format!("server {{ listen 127.0.0.1:{port} backlog=512; root {root}; {settings} }}\n")
        };
        let text = [
            format!("daemon off; master_process off; error_log stderr warn; pid {folder}/pid;\n"),
            "events { worker_connections 1024; }\nhttp {\naccess_log off; default_type text/plain;\n"
                .to_owned(),
            "keepalive_requests 1000000; keepalive_timeout 300s; tcp_nopush on; tcp_nodelay on;\n".to_owned(),
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
                .concat(),
            server(sendfile, &folder.to_string(), "sendfile on;"),
            server(no_sendfile, &folder.to_string(), "sendfile off;"),
            server(gzip_static, &format!("{folder}/packed"), "sendfile on; gzip_static on;"),
            "}\n".to_owned(),
        ]
        .concat();
        fs::write(&config, text)?;
        let shown = Command::new(&program).arg("-v").output()?;
        let shown = String::from_utf8(shown.stderr)?;
        let version = shown.trim().rsplit('/').next().unwrap_or("?").to_owned();
        let process = guarded(&program)?.arg("-c").arg(&config).stdin(Stdio::null()).spawn()?;
        let nginx =
            Self { process: Killed(process), version, sendfile, no_sendfile, gzip_static, _scratch: scratch };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", gzip_static)).is_err() {
            if Instant::now() > until {
                return Err("nginx does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

fn installed() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/nginx");
    let folder = Command::new(script).arg("path").output()?.stdout;
    let program = Path::new(String::from_utf8(folder)?.trim()).join("bin/nginx");
    if !program.exists() {
        return Err("no nginx: run tests/servers/nginx install".into());
    }
    Ok(program)
}

/// Free a moment ago; nothing else here asks for ports.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// The bare loop: the page in memory, written in slices.
#[derive(Debug)]
pub struct Writev {
    process: Killed,
    pub port: u16,
    _scratch: TempDir,
}

impl Writev {
    pub fn start(page: &[u8]) -> Result<Self> {
        let scratch = scratch()?;
        let file = scratch.path().join("page");
        fs::write(&file, page)?;
        let mut process =
            guarded(&std::env::current_exe()?)?.arg("writev").arg(&file).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().ok_or("no pipe")?;
        let process = Killed(process);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self { process, port: line.trim().parse()?, _scratch: scratch })
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// The process: one client after the other, until it is killed.
pub fn writev(file: &str) -> Result<()> {
    let page = fs::read(file)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        // A client that hangs up is done.
        let _ = answer(&mut stream?, &page);
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, page: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
    let mut request = [0; 4096];
    loop {
        // A request is one small packet.
        if stream.read(&mut request)? == 0 {
            return Ok(());
        }
        let mut slices: Vec<_> =
            std::iter::once(head.as_bytes()).chain(page.chunks(SLICE)).map(IoSlice::new).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let written = stream.write_vectored(left)?;
            IoSlice::advance_slices(&mut left, written);
        }
    }
}
