//! What only a network without a kernel can show: addresses of other hosts, and runs that repeat themselves.

use crate::kit::*;

/// Covers: S114, S115, CFG-26
#[test]
fn a_node_is_reached_under_the_address_it_announces() {
    let sim = simulation(114);
    // As behind address translation: who dials the announced address comes out at the bound one.
    let b = know(sim.node_with("b", |c| {
        c.with_canonical_host("10.9.8.7").with_canonical_port(4_000).with_bind("0.0.0.0", 4_000)
    }));
    let a = know(sim.node("a"));
    assert_ne!(a.authority().port(), 0);
    parrot(b.system(), "parrot");
    assert_eq!(b.authority().to_string(), "10.9.8.7:4000");
    let ear = probe(a.system(), "ear");
    let to = far(&a, &b, "/user/parrot");
    assert_eq!(sim.wait(s(2), to.ask(|reply| Talk::Echo(1, reply))), Some(Ok(1)));
    to.tell(Talk::Use(ear.actor().clone(), 5));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [5]);
    assert!(ear.actor().path().to_string().contains(&a.authority().to_string()));
}

/// The same seed gives the same run, to the byte.
///
/// Covers: S156
#[test]
fn a_run_repeats_itself() {
    let run = || {
        let (sim, [a, b]) = nodes(157, ["a", "b"]);
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        a.link().cut_each_after(9, 50..5_000);
        for n in 0..2_000 {
            to.tell(Talk::Say(n));
            if n % 50 == 0 {
                sim.run(ms(7));
            }
        }
        sim.run(s(30));
        (numbers(&ear), a.lifecycle(), b.lifecycle(), a.link().counts())
    };
    assert_eq!(run(), run());
}
