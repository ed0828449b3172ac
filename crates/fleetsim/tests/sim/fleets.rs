//! Many servers at once.

use std::{collections::BTreeMap, time::Duration};

use fleetsim::{Answer, Fleet, Preset, Script, Sickness};
use sqlx::ConnectOptions as _;
use tokio::time::timeout;

use crate::client::{ask, ask_and_leave, connect, options, row};

#[tokio::test]
async fn a_share_of_a_fleet_falls_sick_the_same_for_the_same_seed_and_recovers() {
    let script = |n: usize| {
        let preset = Preset::ALL[n % Preset::ALL.len()];
        Script::new(preset)
            .hostname(&format!("db{n}"))
            .on("q", Answer::integer("n", i64::try_from(n).unwrap()))
    };
    let mut fleet = Fleet::start(40, script).await.unwrap();
    let well = fleet.fall_sick(Sickness::default(), 7).await.unwrap();
    assert_eq!(fleet.fall_sick(Sickness::default(), 7).await.unwrap(), well);
    assert_eq!(well.len(), 40 - 12 - 4 - 2);
    let mut seen: BTreeMap<_, usize> = BTreeMap::new();
    for (n, sim) in fleet.sims().iter().enumerate() {
        let state = match timeout(Duration::from_millis(500), options(sim).connect()).await {
            Err(_) => "is mute",
            Ok(Err(_)) => "refuses",
            Ok(Ok(mut client)) if well.contains(&n) => {
                assert_eq!(ask(&mut client, "q").await.unwrap(), [row([&n.to_string()])]);
                "is well"
            }
            Ok(Ok(client)) => {
                ask_and_leave(client, sim, "q").await;
                "hangs"
            }
        };
        assert!(state == "is well" || !well.contains(&n));
        *seen.entry(state).or_default() += 1;
    }
    assert_eq!(seen, [("hangs", 2), ("is mute", 4), ("is well", 22), ("refuses", 12)].into());
    fleet.recover().await.unwrap();
    for (n, sim) in fleet.sims().iter().enumerate() {
        let mut client = connect(sim).await;
        assert_eq!(ask(&mut client, "q").await.unwrap(), [row([&n.to_string()])]);
    }
}
