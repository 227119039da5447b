"""From folders of runs to a comparison table: read (runs), aggregate (table), arrange (layout), print (render)."""
