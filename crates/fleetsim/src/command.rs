//! What a client asks for once it is in: statements, KILL, and the few other commands.

use std::{sync::Arc, time::Duration};

use tokio::select;

use crate::{
    answer::{Answer, Wait},
    builtin::Task,
    delivery::Then,
    error::ServerError,
    record::{Event, StatementEnd},
    results::ok,
    script::{Kill, Script},
    server::Server,
    session::{End, Session},
    statement::Statement,
};

impl Session {
    /// Reads a command and carries it out.
    pub(crate) async fn command(&mut self) -> Result<(), End> {
        let (_, packet) = self.receive().await?;
        let script = self.server.script();
        let Some((&command, rest)) = packet.split_first() else { return Err(End::Gone) };
        match command {
            // COM_QUIT
            0x01 => {
                self.record(&script, || Event::Quit);
                Err(End::Gone)
            }
            // COM_INIT_DB
            0x02 => {
                self.settings.database = Some(String::from_utf8_lossy(rest).into());
                self.send_packet(1, ok).await
            }
            // COM_PING
            0x0e => self.send_packet(1, ok).await,
            // COM_RESET_CONNECTION
            0x1f => {
                self.settings.limit = Duration::ZERO;
                self.send_packet(1, ok).await
            }
            // COM_QUERY
            0x03 => {
                let text = String::from_utf8_lossy(rest);
                self.handle.set_busy(true);
                let done = self.query(&script, &text).await;
                if done.is_ok() {
                    self.handle.set_busy(false);
                }
                done
            }
            _ => self.send_error(&ServerError::from(1047), 1).await,
        }
    }

    async fn query(&mut self, script: &Script, text: &str) -> Result<(), End> {
        let statement = Statement::read(text, self.handle.id, &self.settings);
        let (task, limit) = (Task::of(script, &statement, self.server.port), statement.limit);
        if !matches!(task, Task::Kill { .. }) {
            self.server.records.count(&self.server.records.statements);
            self.record(script, || Event::Statement(text.into()));
        }
        let answer = match task {
            Task::Kill { session, query_only } => return self.kill(script, session, query_only).await,
            Task::Answer(answer) => answer,
            Task::Limit(limit) => {
                self.settings.limit = limit;
                Arc::new(Answer::ok())
            }
            Task::Use(database) => {
                self.settings.database = Some(database);
                Arc::new(Answer::ok())
            }
        };
        let seen = script.records || script.watch.is_some();
        let ended = || Ended { server: Arc::clone(&self.server), id: self.handle.id, how: None };
        let mut ended = seen.then(ended);
        let done = self.perform(script, &answer, limit).await;
        if let Some(ended) = &mut ended {
            ended.how = Some(match &done {
                Ok(how) => *how,
                Err(End::Cut(_)) => StatementEnd::Answered,
                Err(End::Gone | End::Killed) => StatementEnd::Lost,
            });
        }
        done.map(drop)
    }

    /// Waits as the answer has it, and sends it.
    async fn perform(
        &mut self,
        script: &Script,
        answer: &Answer,
        limit: Option<Duration>,
    ) -> Result<StatementEnd, End> {
        let (handle, mariadb) = (Arc::clone(&self.handle), self.settings.mariadb);
        let wait = async {
            match (answer.wait, limit) {
                (Wait::No, _) => {
                    self.open.sleep(&self.stream, script.latency + answer.delivery.latency).await;
                    None
                }
                (Wait::Limit, Some(limit)) => {
                    self.open.sleep(&self.stream, limit).await;
                    Some((StatementEnd::Limit, if mariadb { 1969 } else { 3024 }))
                }
                (Wait::Limit, None) | (Wait::Kill, _) => self.open.wait(&self.stream).await,
            }
        };
        let interrupted = select! {
            biased;
            waited = wait => waited,
            () = handle.query_killed() => Some((StatementEnd::Killed, 1317)),
        };
        if let Some((end, code)) = interrupted {
            self.send_error(&ServerError::from(code), 1).await?;
            return Ok(end);
        }
        self.send(answer).await?;
        Ok(StatementEnd::Answered)
    }

    async fn kill(&mut self, script: &Script, session: u64, query_only: bool) -> Result<(), End> {
        self.server.records.count(&self.server.records.kills);
        let target = self.server.session(session);
        self.record(script, || Event::Kill { session, query_only, found: target.is_some() });
        if session == self.handle.id && !matches!(script.kill, Kill::Refuse(_)) {
            return self.kill_itself(query_only).await;
        }
        let refusal = match (&script.kill, &target) {
            (Kill::Refuse(error), _) => Some(error.clone()),
            (_, None) => Some(ServerError::new(1094, format!("Unknown thread id: {session}"))),
            (_, Some(target)) if target.user() != self.handle.user() => {
                Some(ServerError::new(1095, format!("You are not owner of thread {session}")))
            }
            _ => None,
        };
        if let (None, Some(target)) = (&refusal, &target)
            && script.kill != Kill::Ignore
        {
            target.kill(query_only);
            if !query_only && !matches!(script.kill, Kill::Linger(_)) {
                // What is killed is gone when KILL is answered, so that whoever counts connections may open the next.
                self.server.leave(target);
            }
        }
        if let Kill::Slow(time) = script.kill {
            self.open.sleep(&self.stream, time).await;
        }
        self.open.sleep(&self.stream, script.latency).await;
        match refusal {
            Some(error) => self.send_error(&error, 1).await,
            None => self.send_packet(1, ok).await,
        }
    }

    /// The only KILL whose victim hears of it.
    async fn kill_itself(&mut self, query_only: bool) -> Result<(), End> {
        let code = if self.settings.mariadb && !query_only { 1927 } else { 1317 };
        self.send_error(&ServerError::from(code), 1).await?;
        if query_only { Ok(()) } else { Err(End::Cut(Then::Close)) }
    }
}

/// Records the end of a statement, however it comes: killed and cut off if nobody has said otherwise.
struct Ended {
    server: Arc<Server>,
    id: u64,
    how: Option<StatementEnd>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let how = self.how.unwrap_or(StatementEnd::Killed);
        self.server.note(&self.server.script(), self.id, || Event::StatementEnded(how));
    }
}
