mod scenarios;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).unwrap_or(20);
    println!("{}", scenarios::run(seeds));
}
