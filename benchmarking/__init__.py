"""What a training step costs: choose (candidates), build (plain_loop, suite), time (timing, bench), print (report)."""
